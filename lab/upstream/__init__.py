"""Patches for libraries that this package stands on, ready to send: README.md here."""

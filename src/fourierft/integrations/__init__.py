"""Doors into the trainers of others: a file for each, imported by that trainer and by nothing here."""

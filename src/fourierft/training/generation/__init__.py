"""Texts that a trained language model writes: beam search, and metrics against several references."""

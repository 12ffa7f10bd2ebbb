"""The server under load: is every answer right, and what does a fleet cost beside the base and beside LoRA."""

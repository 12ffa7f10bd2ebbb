"""What was tried beyond the paper, each with its command and its numbers."""

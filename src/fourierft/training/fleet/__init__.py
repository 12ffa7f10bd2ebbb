"""Training many adapters of one base together: each row of a batch trains its own."""

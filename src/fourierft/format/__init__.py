"""What an adapter is on disk: one parser of its config and its tensors, for all who read them."""

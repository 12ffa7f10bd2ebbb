"""Many adapters in one batch: which row has which, where their coefficients are, and how their updates are added."""

"""What the adapters of a store have in common: their norms, which are alike, their map, sums of them."""

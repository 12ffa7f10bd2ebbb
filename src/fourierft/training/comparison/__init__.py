"""One task, many methods, a grid of learning rates and seeds: runs, a row each, a table and plots."""

"""What is measured with the package and beside it: benchmarks, the paper's tables and figures, and what was tried."""

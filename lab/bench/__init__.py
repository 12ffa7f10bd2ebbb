"""Benchmarks: one harness, a file a suite, results as JSON lines, a page of tables and plots made from them."""

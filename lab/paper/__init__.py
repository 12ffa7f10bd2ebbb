"""The paper's tables and figures: runs, results as JSON lines, and pages with its numbers and ours."""

"""Where the laboratory stands, and what it reads and writes of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
QUALITY = DOCS / "quality"  # rows and pages of `fourierft compare`, and pages of trials beside them
RECIPES = ROOT / "recipes"
COMPARISONS = RECIPES / "compare"
BENCH_RESULTS = ROOT / "lab" / "bench" / "results"  # a file a suite, which all of bench/ shares

"""The page of what was tried: a row a variant, its score on each task beside that of the best form as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev

from experiments.variants import BEST_FORM, RATE, VARIANTS
from fourierft.training.comparison.page import as_markdown
from fourierft.training.comparison.results import BASELINE, Row, by_rate, mean_score
from fourierft.training.output import write_text

TEXT = """\
# What was tried

FourierFT in its best form (n=340, on instructions n=365, on all linear layers), changed in one thing at a time, with as
many trained numbers. Score on each task: accuracy on movies and digits (higher is better), loss on instructions (lower
is better); in brackets the share of the unchanged form's gain over the head alone, and the learning rate where it is
not 3e-3. Seed {seed}; the unchanged form's own standard deviation is {spread}, over {counts} seeds.
"""
Rows = Sequence[Row]


class Baseline:
    """The unchanged form and the head alone on a task.

    Args:
        rows: of `fourierft compare` on it.
        seeds: to compare at.
    """

    def __init__(self, task: str, rows: Rows, seeds: Sequence[int]) -> None:
        same = [row for row in rows if row["method"] == BEST_FORM[task] and row["learning_rate"] == RATE]
        self.sign = -1 if rows[0]["lower_is_better"] else 1
        self.head = mean_score([row for row in rows if row["method"] == BASELINE and row["seed"] in seeds])
        self.score = mean_score([row for row in same if row["seed"] in seeds])
        self.spread, self.count = stdev(row["score"] for row in same), len(same)

    def describe(self, rows: Rows) -> str:
        """A cell: the best score of a variant's rows, its share of the gain, its learning rate."""
        means = {rate: mean_score(some) for rate, some in by_rate(rows).items()}
        known = {rate: score for rate, score in means.items() if score is not None}
        if not known or self.head is None or self.score is None:
            return "diverged" if rows else "-"
        best = max(known, key=lambda rate: self.sign * known[rate])
        share = (known[best] - self.head) / (self.score - self.head)
        told = f"{share:.0%}" if share >= 0 else "below the head alone"
        where = "" if best == RATE else f", {best:g}"
        return f"{known[best]:.4f} ({told}{where})"


def write_page(tried: Rows, known: Mapping[str, Rows], directory: Path) -> Path:
    """Write tried.md.

    Args:
        tried: rows of this package.
        known: rows of `fourierft compare`, by task.
        directory: of the page.
    """
    seeds = sorted({row["seed"] for row in tried} or {0})
    bases = {task: Baseline(task, known[task], seeds) for task in BEST_FORM}
    table = [("", *BEST_FORM), ("unchanged", *(f"{base.score:.4f}" for base in bases.values()))]
    for name, variant in VARIANTS.items():
        rows = [row for row in tried if row["variant"] == name]
        cells = [base.describe([row for row in rows if row["task"] == task]) for task, base in bases.items()]
        if rows:
            table.append((variant.title, *cells))
    spread = ", ".join(f"{base.spread:.4f}" for base in bases.values())
    counts = ", ".join(str(base.count) for base in bases.values())
    text = TEXT.format(seed=", ".join(map(str, seeds)), spread=spread, counts=counts)
    versions = sorted({f"{name} {number}" for row in tried for name, number in row["versions"].items()})
    made = (
        f"{len(tried)} rows of experiments/results/tried.jsonl, made by `python -m experiments`; "
        f"{', '.join(versions)}; device: {', '.join(sorted({row['device'] for row in tried}))}."
    )
    write_text(directory / "tried.md", f"{text}\n{as_markdown(table)}\n\n{made}\n")
    return directory / "tried.md"

"""The page of what was tried: a row a variant, its score on each task beside that of the best form as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from experiments.variants import BEST_FORM, RATE, VARIANTS
from fourierft.errors import DataError
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

    Raises: DataError, if they have no head alone, or fewer than two seeds of the unchanged form.
    """

    def __init__(self, task: str, rows: Rows) -> None:
        same = [row for row in rows if row["method"] == BEST_FORM[task] and row["learning_rate"] == RATE]
        head = mean_score([row for row in rows if row["method"] == BASELINE])
        if head is None or len(same) < 2:
            raise DataError(
                f"{task} has {len(same)} runs of {BEST_FORM[task]} at {RATE:g}, and {'a' if head else 'no'} run of the "
                f"head alone; first run fourierft compare recipes/compare/{task}.yaml --seeds 0 1 2 --methods head "
                f"{BEST_FORM[task]} --learning_rates {RATE:g} --output_dir docs/quality/{task}"
            )
        self.head, self.scores = head, {row["seed"]: row["score"] for row in same}
        self.sign = -1 if rows[0]["lower_is_better"] else 1
        self.spread = stdev(self.scores.values())

    def at(self, seeds: Collection[int]) -> float | None:
        """The unchanged form's mean score over some seeds; None if it was not run at all of them."""
        scores = [score for seed, score in self.scores.items() if seed in seeds]
        return mean(scores) if len(scores) == len(seeds) else None

    def describe(self, rows: Rows) -> str:
        """A cell: the best score of a variant's rows, its share of the gain at the same seeds, its learning rate."""
        means = {rate: mean_score(some) for rate, some in by_rate(rows).items()}
        known = {rate: score for rate, score in means.items() if score is not None}
        if not known:
            return "diverged" if rows else "-"
        best = max(known, key=lambda rate: self.sign * known[rate])
        unchanged = self.at({row["seed"] for row in rows if row["learning_rate"] == best})
        if unchanged is None:
            return f"{known[best]:.4f}"
        share = (known[best] - self.head) / (unchanged - self.head)
        told = f"{share:.0%}" if share >= 0 else "below the head alone"
        where = "" if best == RATE else f", {best:g}"
        return f"{known[best]:.4f} ({told}{where})"


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def write_page(tried: Rows, bases: Mapping[str, Baseline], directory: Path) -> Path:
    """Write tried.md.

    Args:
        tried: rows of this package.
        bases: what to compare with, by task.
        directory: of the page.
    """
    seeds = sorted({row["seed"] for row in tried} or {0})
    table = [("", *BEST_FORM), ("unchanged", *(_number(base.at(seeds)) for base in bases.values()))]
    for name, variant in VARIANTS.items():
        rows = [row for row in tried if row["variant"] == name]
        cells = [base.describe([row for row in rows if row["task"] == task]) for task, base in bases.items()]
        if rows:
            table.append((variant.title, *cells))
    spread = ", ".join(f"{base.spread:.4f}" for base in bases.values())
    counts = ", ".join(str(len(base.scores)) for base in bases.values())
    text = TEXT.format(seed=", ".join(map(str, seeds)), spread=spread, counts=counts)
    versions = sorted({f"{name} {number}" for row in tried for name, number in row["versions"].items()})
    made = (
        f"{len(tried)} rows of experiments/results/tried.jsonl, made by `python -m experiments`; "
        f"{', '.join(versions)}; device: {', '.join(sorted({row['device'] for row in tried}))}."
    )
    write_text(directory / "tried.md", f"{text}\n{as_markdown(table)}\n\n{made}\n")
    return directory / "tried.md"

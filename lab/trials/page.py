"""The page of what was tried: a row a variant, its score on each task beside that of the best form as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from fourierft.errors import DataError
from fourierft.training.comparison.results import BASELINE, Row, by_rate, mean_score, name_rule, under_rule
from fourierft.tuner.scaling import RULE
from lab import pages
from lab.ledger import devices_of, versions_of
from lab.trials.variants import BEST_FORM, EVEN, FEW, RATE, VARIANTS

TEXT = """\
## At one learning rate

Each row changes one thing in FourierFT's best form under scale rule 1 (n=340, on instructions n=365, on all linear
layers), with as many trained numbers. Scores are accuracy on movies and digits (higher is better) and loss on
instructions (lower is better). Brackets show the share of the unchanged form's gain over the head alone, and the
learning rate if it is not 3e-3. Seed {seed}; the unchanged form's standard deviation is {spread}, over {counts}
seeds.
"""
EVEN_TEXT = """\
## Best against best

Under scale rule {rule}, each form at the best of its learning rates, in brackets. The rates run are LoRA's on all
linear layers, half and twice as much, and more if the best was at an end. The unchanged form has as many numbers:
n=340, or as few as n=50 (20 on instructions), fewer than 5,000 in all. Brackets also show the share of its gain over
the head alone.
"""
Rows = Sequence[Row]


class Baseline:
    """The unchanged form and the head alone on a task.

    Args:
        rows: of `fourierft compare` on it.

    Raises: DataError, if they have no head alone, or fewer than two seeds of the unchanged form under scale rule 1.
    """

    def __init__(self, task: str, rows: Rows) -> None:
        self.rows = [name_rule(row) for row in rows]
        first = f"{BEST_FORM[task]}{under_rule(1)}"
        same = [row for row in self.rows if row["method"] == first and row["learning_rate"] == RATE]
        head = mean_score([row for row in rows if row["method"] == BASELINE])
        if head is None or len(same) < 2:
            raise DataError(
                f"{task} has {len(same)} runs of {first} at {RATE:g}, and {'a' if head else 'no'} run of the head "
                f"alone; take back docs/quality/{task}/runs.jsonl as the repository has it, which holds them"
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
        best = self.best(rows)
        if best is None:
            return "diverged" if rows else "-"
        unchanged = self.at({row["seed"] for row in rows if row["learning_rate"] == best[0]})
        return self._cell(*best, unchanged, RATE)

    def beside(self, rows: Rows, others: Rows) -> str:
        """A cell: the best score of some rows, its share of the best gain of others, its learning rate."""
        best, other = self.best(rows), self.best(others)
        if best is None:
            return "diverged" if rows else "-"
        return self._cell(*best, other[1] if other else None, None)

    def best(self, rows: Rows) -> tuple[float, float] | None:
        """The learning rate at which rows are best on average, and the score; None if there is none."""
        means = {rate: mean_score(some) for rate, some in by_rate(rows).items()}
        known = [(rate, score) for rate, score in means.items() if score is not None]
        return max(known, key=lambda pair: self.sign * pair[1], default=None)

    def _cell(self, rate: float, score: float, unchanged: float | None, usual: float | None) -> str:
        told = []
        if unchanged is not None:
            share = (score - self.head) / (unchanged - self.head)
            told.append(f"{share:.0%}" if share >= 0 else "below the head alone")
        if rate != usual:
            told.append(f"{rate:g}")
        return f"{score:.4f}" + f" ({', '.join(told)})" * bool(told)


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def write_page(tried: Rows, bases: Mapping[str, Baseline], directory: Path) -> Path:
    """Write tried.md.

    Args:
        tried: rows of this package.
        bases: what to compare with, by task.
        directory: of the page.
    """
    first = [row for row in tried if row.get("rule", 1) == 1]
    seeds = sorted({row["seed"] for row in first} or {0})
    table = [("", *BEST_FORM), ("unchanged", *(_number(base.at(seeds)) for base in bases.values()))]
    for name, variant in VARIANTS.items():
        rows = [row for row in first if row["variant"] == name]
        cells = [base.describe(_of(rows, task)) for task, base in bases.items()]
        if rows:
            table.append((variant.title, *cells))
    spread = ", ".join(f"{base.spread:.4f}" for base in bases.values())
    counts = ", ".join(str(len(base.scores)) for base in bases.values())
    text = TEXT.format(seed=", ".join(map(str, seeds)), spread=spread, counts=counts)
    made = (
        f"{len(tried)} rows of lab/trials/results/tried.jsonl, made by `python -m lab trials tried`; "
        f"{versions_of(tried)}; device: {devices_of(tried)}."
    )
    later = best_against_best([row for row in tried if row.get("rule") == RULE], bases)
    best = [EVEN_TEXT.format(rule=RULE), later] if later else []
    return pages.write_page(directory / "tried.md", ["# What was tried", text, table, *best, made])


def best_against_best(tried: Rows, bases: Mapping[str, Baseline]) -> list[tuple[str, ...]]:
    """Headings, then the rows of each unchanged form and of what changes it; none if nothing was tried."""
    table: list[tuple[str, ...]] = []
    for title, unchanged in (("n=340", EVEN), ("n=50 / 50 / 20", FEW), ("n=340 / 340 / 365", BEST_FORM)):
        changed = {
            variant.title: [row for row in tried if row["variant"] == name]
            for name, variant in VARIANTS.items()
            if variant.unchanged is unchanged
        }
        known = {task: [row for row in base.rows if row["method"] == unchanged[task]] for task, base in bases.items()}
        if any(changed.values()):
            everything = {f"unchanged, {title}": [row for rows in known.values() for row in rows], **changed}
            table += [
                (name, *(base.beside(_of(rows, task), known[task]) for task, base in bases.items()))
                for name, rows in everything.items()
                if rows
            ]
    return [("", *bases), *table] if table else []


def _of(rows: Rows, task: str) -> Rows:
    return [row for row in rows if row["task"] == task]

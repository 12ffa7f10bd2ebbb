"""Pages in markdown: tables of the paper's numbers and ours, and of stand-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fourierft.tables import markdown_table
from fourierft.training.comparison.results import Row, Summary
from lab.paper.scores import stand_in_rows, summaries_of

Numbers = Sequence[float | None]
STAND_INS = {
    "movies": "MiniLM-L6 (22.7M parameters) on sentences of movie reviews, positive or negative",
    "ratings": "MiniLM-L6 (22.7M parameters) on sentences of movie reviews, rated from -4 to 4",
    "digits": "DINOv2-small (22.1M parameters) on handwritten digits (MNIST)",
    "instructions": "SmolLM2-135M on short instructions (Alpaca sample)",
}


def beside(columns: Sequence[str], lines: Mapping[str, tuple[Numbers, Numbers]], digits: int = 1) -> str:
    """A table of the paper's numbers, and under each line ours, where there are some.

    Args:
        columns: headings of the numbers.
        lines: by title, the paper's numbers and ours.
        digits: behind the point.
    """
    cells: list[list[str]] = [["", "", *columns]]
    for title, (paper, ours) in lines.items():
        cells.append([title, "paper", *(_number(value, digits) for value in paper)])
        if any(value is not None for value in ours):
            cells.append(["", "here", *(_number(value, digits) for value in ours)])
    return markdown_table(cells)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def average(values: Numbers) -> float | None:
    """The mean, if there are all."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def percent(value: float | None) -> float | None:
    """A share in hundredths, as the paper writes scores."""
    return None if value is None else 100 * value


def stand_in_blocks(rows: Sequence[Row], task: str, remark: str = "") -> list[str]:
    """What a stand-in is, and what each method reached on it at its best learning rate; nothing if it was not run."""
    group = stand_in_rows(rows, task)
    if not group:
        return []
    metric = group[0]["metric"].replace("_", " ")
    taken = sum("from" in row for row in group)
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in group}))
    lines: list[Sequence[str]] = [("method", "trained", "learning rate", metric, "spread", "runs")]
    lines += [_cells(one) for one in summaries_of(rows, task)]
    return [
        f"## Stand-in: {task}",
        f"{STAND_INS[task]}: {metric} at the end of training, at the best of the learning rates run, mean over the "
        f"seeds ({seeds}). {remark}".rstrip(),
        markdown_table(lines),
        *([f"Runs taken from `fourierft compare` (docs/quality/{task}): {taken}."] if taken else []),
    ]


def _cells(one: Summary) -> tuple[str, ...]:
    return (
        one.title,
        f"{one.adapter:,}",
        f"{one.learning_rate:g}",
        "diverged" if one.score is None else f"{one.score:.4f}",
        "-" if one.spread is None else f"{one.spread:.4f}",
        str(one.runs),
    )

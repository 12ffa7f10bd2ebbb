"""Scores of runs, summed up as the paper does: the best epoch of a run, the median or mean over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from fourierft.training.comparison.results import Row, Summary, summarize

Average = Callable[[Sequence[float]], float]


def best_epoch(row: Row) -> float | None:
    """The best score of a run's evaluations, which the paper reports for GLUE and images; None if it diverged."""
    if row["score"] is None:
        return None
    scores = [score for _, score in row["eval_curve"] if score is not None] or [row["score"]]
    return min(scores) if row["lower_is_better"] else max(scores)


def tested(row: Row) -> float | None:
    """The score on test data, of the model that was saved, where there is any; else that of the best epoch."""
    return best_epoch(row) if row.get("test_score") is None else row["test_score"]


def over_seeds(
    rows: Sequence[Row],
    task: str,
    method: str,
    average: Average = median,
    score: Callable[[Row], float | None] = best_epoch,
) -> float | None:
    """The score of a method on a task over the seeds that were run, at the better learning rate if there are several.

    Args:
        task: name of the runs' task.
        method: how the runs' method begins, as `fourierft compare` writes it.
    """
    group = [row for row in rows if row["task"] == task and is_method(row, method)]
    by_rate: dict[float, list[float]] = {}
    for row in group:
        value = score(row)
        if value is not None:
            by_rate.setdefault(row["learning_rate"], []).append(value)
    averages = [average(values) for values in by_rate.values()]
    pick = min if group and group[0]["lower_is_better"] else max
    return pick(averages) if averages else None


def is_method(row: Row, method: str) -> bool:
    """Whether a row's method is this one, whatever the settings behind its size."""
    return row["method"] == method or row["method"].startswith(f"{method},")


def stand_in_rows(rows: Sequence[Row], task: str) -> list[Row]:
    """The stand-in's runs of a task under the settings of the last of them."""
    group = [row for row in rows if row["stand_in"] and row["task"] == task]
    return [row for row in group if row["protocol"] == group[-1]["protocol"]]


def paper_rows(rows: Sequence[Row]) -> list[Row]:
    """The runs on the paper's models."""
    return [row for row in rows if not row["stand_in"]]


def summaries_of(rows: Sequence[Row], task: str) -> list[Summary]:
    """A summary a method of the stand-in's runs, at its best learning rate."""
    return summarize(stand_in_rows(rows, task))

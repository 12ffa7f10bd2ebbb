"""The scores of a training over its evaluations: the best on the validation data, the last, and that before training.

The best one was chosen on the data that scored it, as the paper does for GLUE. It flatters; the last stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fourierft.adapters.card import is_score
from fourierft.training.families.registry import lower_is_better

Log = dict[str, Any]


def sum_up(history: Sequence[Log], metric: str) -> dict[str, dict[str, float]]:
    """The evaluations that tell most, by name: `before` the first step, `best` and `last` of at least two after it.

    Args:
        history: the log of the Trainer.
        metric: main metric, by which `best` is chosen; of equal ones the first.

    Returns: for each, `epoch`, `step` and its metrics. No `before` without evaluation at the start; neither `best` nor
        `last` if there were fewer than two evaluations after it.
    """
    evaluations = [_read(log) for log in history if "eval_loss" in log]
    before = [scores for scores in evaluations if scores["step"] == 0]
    after = [scores for scores in evaluations if scores["step"] > 0]
    found = {"before": before[0]} if before else {}
    if len(after) > 1:
        found["best"] = max(after, key=lambda scores: _worth(scores[metric], metric))
        found["last"] = after[-1]
    return found


def scores_at(history: Sequence[Log], step: int, prefix: str) -> dict[str, float] | None:
    """The metrics that were logged of the model after a step; None if it was not evaluated there.

    Args:
        prefix: eval or test.
    """
    logs = [log for log in history if f"{prefix}_loss" in log and log["step"] == step]
    return without_prefix(logs[-1], prefix) if logs else None


def without_prefix(scores: Log, prefix: str) -> dict[str, float]:
    """The metrics of one evaluation, by their own names."""
    return {name.removeprefix(f"{prefix}_"): value for name, value in scores.items() if name.startswith(f"{prefix}_")}


def score_rows(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Metric, value and what it was measured on, of a finished training.

    Args:
        metrics: the content of metrics.json.
    """
    rows = []
    for part, name in (("eval", "validation"), ("test", "test")):
        shown = {key: value for key, value in metrics.get(part, {}).items() if _is_score(key, value)}
        rows += [
            (key, f"{value:.4f}", f"{name} data, the model saved ({metrics['saved']})") for key, value in shown.items()
        ]
    metric = metrics["main_metric"]
    for part, text in (
        ("best", "the best epoch, {epoch:g}, chosen on this validation data"),
        ("last", "the last epoch, {epoch:g}"),
        ("before", "before training"),
    ):
        scores = metrics.get(part, {})
        if _is_score(metric, scores.get(metric)):
            rows.append((metric, f"{scores[metric]:.4f}", text.format(epoch=round(scores["epoch"], 2))))
    return rows


def _is_score(name: str, value: Any) -> bool:
    return isinstance(value, float) and is_score(name)


def _read(log: Log) -> dict[str, float]:
    scores = without_prefix(log, "eval")
    told = {name: value for name, value in scores.items() if _is_score(name, value)}
    return {"epoch": log["epoch"], "step": log["step"], **told}


def _worth(score: float | None, metric: str) -> float:
    if score is None or not math.isfinite(score):
        return -math.inf
    return -score if lower_is_better(metric) else score

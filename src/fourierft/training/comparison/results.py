"""Rows of finished runs: read from JSON lines, and summed up by method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from fourierft.training.output import read_json_lines
from fourierft.tuner.scaling import RULE

FILE = "runs.jsonl"
REFERENCE = "lora:8"
BASELINE = "head"

Row = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What a method reached, at the best of the learning rates that most seeds were run at, unless said otherwise.

    Attributes:
        score: mean over seeds; None if every run diverged.
        spread: standard deviation over seeds; None if there is one.
        runs: number of runs at this rate.
        adapter, head: trained parameters.
        n_bytes: of the adapter on disk, the head left out.
        seconds_per_step: median over all runs of the method.
        gain: share of LoRA r=8's gain over the head alone.
        rate_ratio: best learning rate over LoRA r=8's.
        score_at_reference: mean score at LoRA r=8's best learning rate; None if it was not run there.
        gain_kept: share of its own gain over the head alone that is left there.
    """

    spec: str
    family: str
    title: str
    learning_rate: float
    score: float | None
    spread: float | None
    runs: int
    adapter: int
    head: int
    n_bytes: int
    seconds_per_step: float
    gain: float | None = None
    rate_ratio: float | None = None
    score_at_reference: float | None = None
    gain_kept: float | None = None


def read_rows(directory: Path) -> list[Row]:
    """Rows of the finished runs in a directory; see `read_json_lines`."""
    return read_json_lines(directory / FILE)


def under_rule(rule: int) -> str:
    """What is added to the name of a method whose scale came from an earlier rule than today's."""
    return f", scale rule {rule}"


def name_rule(row: Row) -> Row:
    """A row that says so where the scale was that of an earlier rule; rule 1 was the only one when rows named none."""
    config = row.get("config") or {}
    if config.get("peft_type") != "FOURIERFT" or config.get("scaling", "auto") != "auto":
        return row
    rule = row.get("rule", 1)
    if rule == RULE or not isinstance(rule, int):  # a rule that was tried has its name in the method's
        return row
    return {**row, "method": row["method"] + under_rule(rule), "title": row["title"] + under_rule(rule)}


def by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by method, in the order the methods first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["method"], []).append(row)
    return groups


def by_rate(rows: Sequence[Row]) -> dict[float, list[Row]]:
    rates = sorted({row["learning_rate"] for row in rows})
    return {rate: [row for row in rows if row["learning_rate"] == rate] for rate in rates}


def mean_score(rows: Sequence[Row]) -> float | None:
    """Mean of the rows' scores; None if one diverged or there are none."""
    scores = [row["score"] for row in rows]
    return None if not scores or None in scores else mean(scores)


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """A summary a method, in the order the methods first appear.

    Args:
        rows: of one task under one protocol.
    """
    found = {spec: _summarize_method(group) for spec, group in by_method(rows).items()}
    reference, baseline = found.get(REFERENCE), found.get(BASELINE)
    if reference is None:
        return list(found.values())
    return [_compare(one, by_method(rows)[spec], reference, baseline) for spec, one in found.items()]


def _summarize_method(rows: list[Row]) -> Summary:
    sign = -1 if rows[0]["lower_is_better"] else 1
    groups = by_rate(rows)
    most = max(len(group) for group in groups.values())  # a rate that one lucky seed tried is not the best
    means = {rate: mean_score(group) for rate, group in groups.items() if len(group) == most}
    best = max(means, key=lambda rate: -math.inf if means[rate] is None else sign * float(means[rate] or 0))
    at_best = [row for row in rows if row["learning_rate"] == best]
    scores = [row["score"] for row in at_best]
    first = at_best[0]
    return Summary(
        spec=first["method"],
        family=first["family"],
        title=first["title"],
        learning_rate=best,
        score=means[best],
        spread=stdev(scores) if len(scores) > 1 and means[best] is not None else None,
        runs=len(at_best),
        adapter=first["parameters"]["adapter"],
        head=first["parameters"]["head"],
        n_bytes=first["bytes"]["adapter"],
        seconds_per_step=median(row["seconds_per_step"] for row in rows),
    )


def _compare(one: Summary, rows: list[Row], reference: Summary, baseline: Summary | None) -> Summary:
    there = mean_score([row for row in rows if row["learning_rate"] == reference.learning_rate])
    is_rated = one.family != BASELINE
    return Summary(
        **{
            **vars(one),
            "gain": _share(one.score, reference.score, baseline),
            "rate_ratio": one.learning_rate / reference.learning_rate if is_rated else None,
            "score_at_reference": there if is_rated else None,
            "gain_kept": _share(there, one.score, baseline) if is_rated else None,
        }
    )


def _share(score: float | None, whole: float | None, baseline: Summary | None) -> float | None:
    if score is None or whole is None or baseline is None or baseline.score is None or whole == baseline.score:
        return None
    return (score - baseline.score) / (whole - baseline.score) + 0.0  # never -0

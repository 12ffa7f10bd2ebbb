"""The fair rows: LoRA and FourierFT on the same layers, all linear ones, as tables, differences and a plot.

    python -m lab trials curve

Reads docs/quality/TASK/runs.jsonl, which `fourierft compare recipes/compare/TASK.yaml` writes, and trains nothing.
Prints the tables, and writes them to docs/quality/curve.md, with the plot of score against trained numbers beside it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.training.comparison.plots import COLOURS, draw_against
from fourierft.training.comparison.results import (
    BASELINE,
    Row,
    Summary,
    by_method,
    by_rate,
    mean_score,
    name_rule,
    read_rows,
    summarize,
)
from fourierft.tuner.scaling import RULE
from lab import pages
from lab.folders import QUALITY
from lab.ledger import devices_of
from lab.pages import Table

PAGE = QUALITY / "curve.md"
TASKS = ("movies", "digits", "instructions", "glosses", "qwen-0.5b", "qwen-1.5b")
NARROW = ("movies", "digits")  # their models are 384 wide, where scale rules 2 and 3 are one
LAYERS = ",layers=all"
REFERENCES = ("lora:1", "lora:8")
DEFAULT = "fourierft:340"
TEXT = """\
# LoRA and FourierFT on the same layers

All linear layers of a block, LoRA with alpha = 16, `scaling="auto"` under its present rule. A cell is the mean over
seeds, with the number of seeds in brackets if there are several. The best rate of a row is in bold. An asterisk means
that no rate beyond it was run, so the real best may be further out.

![score against trained numbers](curve.png)
"""
DIFFERENCES = """\
## Differences

FourierFT n=340 minus LoRA, in points of accuracy, or in percent of LoRA r=8's fall in loss. Above 0, FourierFT is
ahead. Then a 95% interval (Student's t) over the seeds that both methods share, with their number in brackets.
"""


@dataclass(frozen=True)
class Gap:
    """A difference of two methods' scores at the seeds they share, each at a rate.

    Attributes:
        mean: over seeds.
        half: half the width of its 95% interval; None with one seed.
        seeds: how many.
    """

    mean: float
    half: float | None
    seeds: int

    def shown(self, scale: float, unit: str) -> str:
        """As a cell, times `scale`."""
        around = "" if self.half is None else f" ± {abs(scale) * self.half:.1f}"
        return f"{scale * self.mean:+.1f}{unit}{around} ({self.seeds})"


def same_layers(task: str) -> list[Row]:
    """Rows of a task's newest protocol: the head alone, and LoRA and FourierFT on all linear layers; one a run."""
    rows = read_rows(PAGE.parent / task)
    if task in NARROW:
        rows = [{**row, "rule": RULE} if row.get("rule") == 2 else row for row in rows]
    named = [name_rule(row) for row in rows if row["protocol"] == rows[-1]["protocol"]]  # an older one had other data
    runs = {
        (row["method"], row["learning_rate"], row["seed"]): row
        for row in named
        if row["method"] == BASELINE or _is_fair(row["method"])
    }
    return list(runs.values())


def _is_fair(method: str) -> bool:
    family, _, rest = method.partition(":")
    return family in ("lora", "fourierft") and rest.removesuffix(LAYERS).isdigit() and rest.endswith(LAYERS)


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Headings, and a row a method by its trained numbers: the mean score at each rate."""
    rates = list(by_rate([row for row in rows if row["method"] != BASELINE]))
    cells: list[tuple[str, ...]] = [("", "numbers", *(f"{rate:g}" for rate in rates))]
    groups = [group for name, group in by_method(rows).items() if name != BASELINE]
    for group in sorted(groups, key=lambda group: (group[0]["family"] != "lora", -group[0]["parameters"]["adapter"])):
        found = by_rate(group)
        best = best_rate(group)
        edge = best in (min(found), max(found))
        shown = [_cell(found.get(rate, []), rate == best, edge) for rate in rates]
        cells.append((group[0]["title"].partition(",")[0], f"{group[0]['parameters']['adapter']:,}", *shown))
    return cells


def _cell(rows: Sequence[Row], is_best: bool, is_edge: bool) -> str:
    if not rows:
        return ""
    score = mean_score(rows)
    text = "diverged" if score is None else f"{score:.3f}"
    told = f"**{text}**{'*' if is_edge else ''}" if is_best else text
    return f"{told} ({len(rows)})" if len(rows) > 1 else told


def best_rate(rows: Sequence[Row]) -> float:
    """The rate with the best mean score, of those that most seeds were run at."""
    sign, groups = -1 if rows[0]["lower_is_better"] else 1, by_rate(rows)
    most = max(map(len, groups.values()))
    means = {rate: mean_score(some) for rate, some in groups.items() if len(some) == most}
    return max(means, key=lambda rate: -math.inf if means[rate] is None else sign * float(means[rate] or 0))


def compare(ours: Sequence[Row], theirs: Sequence[Row]) -> Gap | None:
    """Ours less theirs, over the seeds that both have; None if they share none.

    Args:
        ours: rows at one rate.
        theirs: rows at one rate.
    """
    from scipy.stats import t

    left, right = ({row["seed"]: row["score"] for row in rows if row["score"] is not None} for rows in (ours, theirs))
    gaps = [left[seed] - right[seed] for seed in sorted(set(left) & set(right))]
    if not gaps:
        return None
    half = None if len(gaps) == 1 else float(t.ppf(0.975, len(gaps) - 1)) * stdev(gaps) / math.sqrt(len(gaps))
    return Gap(mean(gaps), half, len(gaps))


def differences(task: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """A row: n=340 at its best rate less LoRA r=1 and r=8 at theirs; n=340 at r=8's rate less at its own."""
    groups = by_method(rows)
    ours = by_rate(groups.get(DEFAULT + LAYERS, []))
    if not ours:
        return (task, *("-" for _ in range(3)))
    best = ours[best_rate(groups[DEFAULT + LAYERS])]
    scale, unit = _scale(rows)
    cells = [task]
    for name in REFERENCES:
        theirs = groups.get(name + LAYERS, [])
        gap = compare(best, by_rate(theirs)[best_rate(theirs)]) if theirs else None
        cells.append("-" if gap is None else gap.shown(scale, unit))
    theirs = groups.get("lora:8" + LAYERS, [])
    there = ours.get(best_rate(theirs), []) if theirs else []
    gap = compare(there, best)
    cells.append("-" if gap is None else gap.shown(scale, unit))
    return tuple(cells)


def _scale(rows: Sequence[Row]) -> tuple[float, str]:
    """What a difference of scores is multiplied by, and its unit."""
    if not rows[0]["lower_is_better"]:
        return 100.0, ""
    groups = by_method(rows)
    theirs = groups["lora:8" + LAYERS]
    fall = mean_score(groups[BASELINE])
    reached = mean_score(by_rate(theirs)[best_rate(theirs)])
    return (math.nan if fall is None or reached is None else -100 / (fall - reached)), "%"


def draw(found: dict[str, list[Row]], file: Path) -> Path:
    """Score at the best rate against trained numbers, a panel a task."""
    across = min(len(found), 3)
    down = math.ceil(len(found) / across)
    figure = new_figure(4.2 * across, 3.4 * down)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes, (task, rows) in zip(panels, found.items(), strict=False):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(task, loc="left", fontsize=11, fontweight="bold")
        draw_against(axes, summaries(rows), rows[0]["metric"].replace("_", " "), lambda one: one.adapter, "parameters")
        _mark_reference(axes, rows)
        axes.xaxis.set_minor_formatter("")
        axes.legend(frameon=False, fontsize=8)
        if rows[0]["lower_is_better"]:
            axes.invert_yaxis()
    save_figure(figure, file)
    return file


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """Of each method at its best rate, its title without the layers, which are the same for all."""
    return [Summary(**{**vars(one), "title": one.title.partition(",")[0]}) for one in summarize(rows)]


def _mark_reference(axes: Any, rows: Sequence[Row]) -> None:
    """Hollow marks: FourierFT at LoRA r=8's best rate."""
    groups = by_method(rows)
    if "lora:8" + LAYERS not in groups:
        return
    rate = best_rate(groups["lora:8" + LAYERS])
    there = [by_rate(group).get(rate, []) for name, group in groups.items() if name.startswith("fourierft")]
    points = [(some[0]["parameters"]["adapter"], mean_score(some)) for some in there if mean_score(some) is not None]
    if points:
        axes.plot(
            *zip(*sorted(points), strict=True),
            linestyle="",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            color=COLOURS["fourierft"],
            label=f"FourierFT at LoRA r=8's best rate, {rate:g}",
        )


def write_page(found: dict[str, list[Row]]) -> str:
    """Write the page and its plot; returns the page."""
    draw(found, PAGE.with_suffix(".png"))
    gaps: list[tuple[str, ...]] = [
        ("", "less r=1, best to best", "less r=8, best to best", "at LoRA r=8's best rate less at its own")
    ]
    gaps += [differences(task, rows) for task, rows in found.items()]
    blocks: list[str | Table] = [TEXT, DIFFERENCES, gaps]
    for task, rows in found.items():
        head = mean_score([row for row in rows if row["method"] == BASELINE])
        told = "" if head is None else f" ({head:.3f} before)"
        minutes = sum(row["seconds"] for row in rows) / 60
        blocks += [f"## {task}, {rows[0]['metric'].replace('_', ' ')}{told}", table(rows)]
        blocks.append(f"{len(rows)} runs, {minutes:.0f} minutes in all; device: {devices_of(rows)}.")
    return pages.write_page(PAGE, blocks).read_text(encoding="utf-8")


def run(arguments: argparse.Namespace) -> int:
    print(write_page({task: rows for task in TASKS if (rows := same_layers(task))}))
    return 0

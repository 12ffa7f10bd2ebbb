"""What the runs of the study of widths say: best learning rates refined between those run, tables, a plot, a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.training.comparison.plots import COLOURS, MARKERS, STYLES
from fourierft.training.comparison.results import (
    BASELINE,
    REFERENCE,
    Row,
    Summary,
    by_method,
    by_rate,
    mean_score,
    summarize,
)
from lab import pages
from lab.ledger import devices_of, versions_of

COLUMNS = (
    "width",
    "method",
    "best rate",
    "refined",
    "/ LoRA's",
    "loss at best",
    "loss at LoRA's",
    "gain kept",
)
INTRODUCTION = """\
Language models of bytes with two layers, each trained from a random start to write WordNet's glosses, then fine-tuned
on short instructions (Alpaca sample) with `scaling="auto"`, on the query and value projections or, with `layers=all`,
on every linear layer. Loss a byte of held-out answers, lower is better. Made by `python -m lab trials widths`."""
LEGEND = """\
- best rate: of the learning rates run; refined: bottom of the parabola through the loss there and at the two rates
  beside it, over log(rate); a dash: the best is at an end of the grid
- / LoRA's: refined rate over that of LoRA r=8 at the same width
- loss at LoRA's: at the best of LoRA r=8's rates that were run; gain kept: share of the method's own best gain over
  the untrained base that is left there"""


def by_width(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Rows by width, rising; of each those under the settings that were run last."""
    last = {row["width"]: row["protocol"] for row in rows}
    kept = [row for row in rows if row["protocol"] == last[row["width"]]]
    return {width: [row for row in kept if row["width"] == width] for width in sorted(last)}


def mean_losses(rows: Sequence[Row]) -> dict[float, float | None]:
    """Mean loss by learning rate, rising, at the rates that most seeds were run at; None where a run diverged."""
    groups = by_rate(rows)
    most = max(map(len, groups.values()))
    return {rate: mean_score(group) for rate, group in groups.items() if len(group) == most}


def refine(losses: Mapping[float, float | None]) -> float | None:
    """The rate at the bottom of the parabola through the least loss and those beside it, over log(rate).

    Args:
        losses: by learning rate, rising; None where a run diverged.

    Returns: the rate; None if the least loss is at an end, or has a diverged one beside it.
    """
    points = [(math.log(rate), math.inf if loss is None else loss) for rate, loss in losses.items()]
    best = min(range(len(points)), key=lambda place: points[place][1])
    beside = points[max(best - 1, 0) : best + 2]
    if len(beside) < 3 or not all(math.isfinite(loss) for _, loss in beside):
        return None
    (a, before), (b, least), (c, behind) = beside
    falling, rising = (before - least) / (b - a), (behind - least) / (c - b)
    return math.exp((a + b) / 2 + (c - a) / 2 * falling / (falling + rising))


def refined_rates(rows: Sequence[Row]) -> dict[str, float | None]:
    """The refined best rate of each method that has rates.

    Args:
        rows: of one width.
    """
    return {
        spec: refine(mean_losses(group)) for spec, group in by_method(rows).items() if group[0]["family"] != BASELINE
    }


def widest_move(rates: Mapping[float, float | None]) -> float | None:
    """The most that a rate moves, as a factor of at least 1, between two sizes at most 10 apart; None if no two are."""
    known = [(size, rate) for size, rate in rates.items() if rate is not None]
    near = [max(a, b) / min(a, b) for (m, a), (n, b) in combinations(known, 2) if max(m, n) <= 10 * min(m, n)]
    return max(near, default=None)


def table_rows(groups: Mapping[int, Sequence[Row]]) -> list[tuple[str, ...]]:
    """Headings, and a row a width and method, as text.

    Args:
        groups: rows by width.
    """
    cells: list[tuple[str, ...]] = [COLUMNS]
    for width, rows in groups.items():
        refined = refined_rates(rows)
        cells += [
            _cells(width, one, refined.get(one.spec), refined.get(REFERENCE))
            for one in summarize(rows)
            if one.family != BASELINE
        ]
    return cells


def _cells(width: int, one: Summary, refined: float | None, reference: float | None) -> tuple[str, ...]:
    ratio = refined / reference if refined and reference else None
    return (
        str(width),
        one.title,
        f"{one.learning_rate:g}",
        _number(refined, ".2g"),
        _number(ratio, ".2f"),
        _number(one.score, ".4f"),
        _number(one.score_at_reference, ".4f"),
        _number(one.gain_kept, ".1%"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def base_rows(groups: Mapping[int, Sequence[Row]]) -> list[tuple[str, ...]]:
    """Headings, and a row a base, as text."""
    cells: list[tuple[str, ...]] = [("width", "heads", "pretrained at", "loss on glosses", "loss on instructions")]
    for width, rows in groups.items():
        first, untrained = rows[0], mean_score(by_method(rows).get(BASELINE, []))
        before = first["pretraining"]
        cells.append(
            (
                str(width),
                str(first["heads"]),
                f"{before['learning_rate']:.2g}",
                f"{before['loss']:.4f}",
                _number(untrained, ".4f"),
            )
        )
    return cells


def verdict(groups: Mapping[int, Sequence[Row]]) -> list[str]:
    """What the refined rates say about what was asked, a line each."""
    refined = {width: refined_rates(rows) for width, rows in groups.items()}
    titles = {row["method"]: row["title"] for rows in groups.values() for row in rows if row["family"] != BASELINE}
    ratios = [
        rate / reference
        for rates in refined.values()
        for reference in [rates.get(REFERENCE)]
        for spec, rate in rates.items()
        if reference and rate and spec != REFERENCE
    ]
    lines = []
    if ratios:
        near = sum(0.5 <= ratio <= 2 for ratio in ratios)
        lines.append(
            f"- FourierFT's best rate is {min(ratios):.2f} to {max(ratios):.2f} of LoRA r=8's; in {near} of "
            f"{len(ratios)} cases within a factor of 2."
        )
    for spec, title in titles.items():
        move = widest_move({width: rates.get(spec) for width, rates in refined.items()})
        if move is not None:
            lines.append(f"- Between widths at most 10 apart, the best rate of {title} moves by up to {move:.2f}.")
    for width, rows in groups.items():
        sizes = {
            row["config"]["n_frequency"]: refined[width][row["method"]]
            for row in rows
            if row["family"] == "fourierft" and "," not in row["method"]
        }
        move = widest_move(sizes)
        if move is not None:
            lines.append(
                f"- Between n at most 10 apart, at width {width}, the best rate of FourierFT on query and value moves "
                f"by up to {move:.2f}."
            )
    return lines


def draw(groups: Mapping[int, Sequence[Row]], file: Path) -> None:
    """Loss against learning rate, a panel a width; shaded is a factor of 2 about the refined best rate of LoRA r=8.

    A panel ends a little above the untrained base: what is worse than that was no training.
    """
    figure = new_figure(3.6 * len(groups) + 1.8, 3.6)
    styles: dict[str, dict[str, Any]] = {}
    for axes, (width, rows) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        for spec, group in by_method(rows).items():
            points: Any = [(rate, loss) for rate, loss in mean_losses(group).items() if loss is not None]
            family, title = group[0]["family"], group[0]["title"]
            if family == BASELINE:
                axes.axhline(points[0][1], color=COLOURS[BASELINE], linestyle=":", label="untrained")
            elif points:
                style = styles.setdefault(spec, _style(family, len(styles)))
                axes.plot(*zip(*points, strict=True), **style, label=title)
        untrained, reference = mean_score(by_method(rows).get(BASELINE, [])), refined_rates(rows).get(REFERENCE)
        least = min((row["score"] for row in rows if row["score"] is not None), default=math.inf)
        if untrained is not None and least < untrained:
            axes.set_ylim(least - 0.05 * (untrained - least), untrained + 0.1 * (untrained - least))
        if reference:
            axes.axvspan(reference / 2, 2 * reference, color=COLOURS["lora"], alpha=0.1, linewidth=0)
        axes.set(xscale="log", xlabel="learning rate", title=f"width {width}")
        axes.grid(alpha=0.25)
    named = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.axes[0].set_ylabel("loss a byte")
    figure.legend(named.values(), named.keys(), loc="outside right center", frameon=False, fontsize=8)
    save_figure(figure, file)


def _style(family: str, index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[family],
        "linestyle": STYLES[index % len(STYLES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.2,
    }


def write_page(groups: Mapping[int, Sequence[Row]], directory: Path) -> Path:
    """Write summary.md and the plot it shows.

    Args:
        groups: rows by width.
        directory: which is there.

    Returns: the page.
    """
    rows = [row for group in groups.values() for row in group]
    draw(groups, directory / "widths.png")
    diverged, minutes = sum(row["score"] is None for row in rows), sum(row["seconds"] for row in rows) / 60
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    blocks = [
        "# Widths: does the best learning rate stay where LoRA's is?",
        INTRODUCTION,
        base_rows(groups),
        table_rows(groups),
        LEGEND,
        "\n".join(verdict(groups)),
        "![loss against learning rate, a panel a width](widths.png)",
        f"{len(rows)} runs, of which {diverged} diverged, {minutes:.0f} minutes of fine-tuning, seed {seeds}; "
        f"{versions_of(rows)}; device: {devices_of(rows)}.",
    ]
    return pages.write_page(directory / "summary.md", blocks)

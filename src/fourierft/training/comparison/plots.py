"""Plots of a comparison: score against size, bytes and learning rate; training curves; seconds a step.

Colours go out from those of Okabe and Ito, which the colour-blind tell apart; a family of methods has one, and a marker
of its own where it is a point. Lines of one family differ by dashes and marker; the head alone is dotted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fourierft.adapters.figure import place_labels, save_figure, use_log_scale
from fourierft.extras import needs
from fourierft.tables import format_bytes
from fourierft.training.comparison.results import BASELINE, Row, Summary, by_method, by_rate, mean_score

COLOURS = {
    "fourierft": "#D55E00",
    "lora": "#0072B2",
    "vera": "#009E73",
    "waveft": "#CC79A7",
    "c3a": "#E69F00",
    "ia3": "#56B4E9",
    "road": "#8A6F00",
    "unilora": "#6A51A3",
    "bitfit": "#7F7F7F",
    "full": "#000000",
    "head": "#7F7F7F",
    "config": "#A0522D",
}
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")
MOST, BEST = 15, 3  # forms of methods that a plot has a line for; of each family, where there are more
POINTS = dict(zip(COLOURS, "osD^vP<>phX*", strict=True))  # a marker for each family


def draw_all(rows: Sequence[Row], summaries: Sequence[Summary], directory: Path) -> list[Path]:
    """Draw every plot into `directory`, as PNG.

    Args:
        rows: of one task under one protocol.
        summaries: of these rows.
    """
    metric = rows[0]["metric"].replace("_", " ") + (" (lower is better)" if rows[0]["lower_is_better"] else "")
    plots: dict[str, Callable[[Any], None]] = {
        "score-parameters": lambda axes: draw_against(axes, summaries, metric, lambda one: one.adapter, "parameters"),
        "score-bytes": lambda axes: draw_against(axes, summaries, metric, lambda one: one.n_bytes, "bytes on disk"),
        "score-learning-rate": lambda axes: draw_rates(axes, lines, metric),
        "training-curves": lambda axes: draw_curves(axes, lines, summaries),
        "seconds-per-step": lambda axes: draw_seconds(axes, summaries),
    }
    lines = keep_best(rows, summaries)
    task = str(rows[0]["task"])
    some = f"{task}, the best {BEST} forms of each method" if len(lines) < len(rows) else task
    titles = {"score-learning-rate": some, "training-curves": some}
    return [_draw(directory / f"{name}.png", titles.get(name, task), draw) for name, draw in plots.items()]


def keep_best(rows: Sequence[Row], summaries: Sequence[Summary]) -> Sequence[Row]:
    """The rows whose lines can be told apart: all, or of each family the BEST forms if there are more than MOST."""
    if len(summaries) <= MOST:
        return rows
    sign = -1 if rows[0]["lower_is_better"] else 1
    ranked = sorted((one for one in summaries if one.score is not None), key=lambda one: -sign * (one.score or 0.0))
    families = {one.family for one in ranked}
    kept = {one.spec for family in families for one in [each for each in ranked if each.family == family][:BEST]}
    return [row for row in rows if row["method"] in kept]


def _draw(file: Path, title: str, draw: Callable[[Any], None]) -> Path:
    with needs("train", "drawing the plots"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    draw(axes)
    save_figure(figure, file, dpi=150)
    return file


def draw_against(
    axes: Any, summaries: Sequence[Summary], metric: str, size: Callable[[Summary], int], what: str
) -> None:
    """Best score against a size on a logarithmic axis; the head alone is a line across."""
    shown = [one for one in summaries if one.score is not None and size(one) > 0 and one.family != BASELINE]
    for family in dict.fromkeys(one.family for one in shown):
        members = sorted((one for one in shown if one.family == family), key=size)
        axes.errorbar(
            [size(one) for one in members],
            [one.score for one in members],
            yerr=[one.spread or 0 for one in members],
            color=COLOURS[family],
            marker=POINTS[family],
            markersize=8,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linewidth=1.2,
            elinewidth=1,
            capsize=3,
            label=members[0].title.partition(" ")[0],
        )
    _draw_baseline(axes, {one.title: one.score for one in summaries if one.family == BASELINE})
    axes.margins(x=0.12)
    use_log_scale(axes)
    if what != "parameters":
        axes.xaxis.set_major_formatter(lambda value, _: format_bytes(value))
    axes.set_xlabel(f"{what} of the adapter")
    axes.set_ylabel(metric)
    _legend(axes)
    named = [(one.title.partition(" ")[2], (float(size(one)), float(one.score or 0)), one) for one in shown]
    place_labels(axes, [(name, point, COLOURS[one.family]) for name, point, one in named if name])


def draw_rates(axes: Any, rows: Sequence[Row], metric: str) -> None:
    """Mean score against learning rate, a line a method; rates at which a run diverged are left out."""
    for style, group in _styled(rows):
        means = {rate: mean_score(some) for rate, some in by_rate(group).items()}
        if group[0]["family"] == BASELINE:
            _draw_baseline(axes, {group[0]["title"]: mean_score(group)})
            continue
        points = [(rate, score) for rate, score in means.items() if score is not None]
        if points:
            axes.plot(*zip(*points, strict=True), **style, markersize=5, label=group[0]["title"])
    use_log_scale(axes)
    axes.set_xlabel("learning rate of the adapter")
    axes.set_ylabel(metric)
    _legend(axes)


def draw_curves(axes: Any, rows: Sequence[Row], summaries: Sequence[Summary]) -> None:
    """Training loss by step at each method's best learning rate, mean over seeds."""
    best = {one.spec: one.learning_rate for one in summaries}
    for style, group in _styled(rows):
        curves = [
            row["loss_curve"]
            for row in group
            if row["learning_rate"] == best[row["method"]] and row["score"] is not None and row["loss_curve"]
        ]
        if curves:
            steps = [step for step, _ in curves[0]]
            losses = [mean(loss for _, loss in points) for points in zip(*curves, strict=False)]
            apart = max(1, len(losses) // 5)  # from marker to marker; lines begin with theirs at different steps
            line = {**style, "linewidth": 1.3, "markersize": 4, "markevery": (len(axes.lines) % apart, apart)}
            axes.plot(steps[: len(losses)], losses, **line, label=group[0]["title"])
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    _legend(axes)


def draw_seconds(axes: Any, summaries: Sequence[Summary]) -> None:
    """Median seconds a step, a bar a method."""
    shown = sorted((one for one in summaries if one.seconds_per_step > 0), key=lambda one: -one.seconds_per_step)
    bars = axes.barh(
        [one.title for one in shown],
        [one.seconds_per_step for one in shown],
        color=[COLOURS[one.family] for one in shown],
    )
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_xlabel("seconds a step")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelsize=8)


def _draw_baseline(axes: Any, scores: Mapping[str, float | None]) -> None:
    """A line across at each score, with its name."""
    for title, score in scores.items():
        if score is not None:
            axes.axhline(score, color=COLOURS[BASELINE], linestyle=":", linewidth=1.5)
            axes.annotate(
                title,
                (0.01, score),
                (0, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=8,
                color=COLOURS[BASELINE],
            )


def _style(family: str, index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[family],
        "linestyle": ":" if family == BASELINE else STYLES[index % len(STYLES)],
        "marker": MARKERS[index % len(MARKERS)],
        "linewidth": 2.2 if family == "fourierft" else 1.3,
        "zorder": 3 if family == "fourierft" else 2,
    }


def _styled(rows: Sequence[Row]) -> list[tuple[dict[str, Any], list[Row]]]:
    seen: dict[str, int] = {}
    styled = []
    for group in by_method(rows).values():
        family = group[0]["family"]
        styled.append((_style(family, seen.get(family, 0)), group))
        seen[family] = seen.get(family, 0) + 1
    return styled


def _legend(axes: Any) -> None:
    """A legend beside the axes, and the figure as high as that is."""
    count = len(axes.get_legend_handles_labels()[1])
    if count:
        axes.legend(frameon=False, fontsize=8, handlelength=3.2, loc="center left", bbox_to_anchor=(1.0, 0.5))
        width, height = axes.figure.get_size_inches()
        axes.figure.set_size_inches(width, max(height, 0.5 + 0.185 * count))

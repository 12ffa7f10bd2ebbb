"""Plots of the page: ratios to a baseline, the heat maps of one layer, and speeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fourierft.adapters.figure import new_figure, save_figure
from lab.bench.methods import LABELS
from lab.ledger import Row

RATIOS = {  # suite -> what has the time 1
    "every_layer": "frozen base",
    "training_step": "frozen base",
    "every_decoding": "frozen base",
    "decoding": "frozen base",
    "merging": "frozen base",
    "fleet": "frozen base",
    "fleet_training": "one after another",
}
SPEEDS = ("zipf",)
TICKS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500)
COLOURS = {  # of Okabe and Ito, and greys: the colour-blind tell them apart
    "stock": "#D55E00",
    "lora-8": "#6f7782",
    "lora-64": "#a8adb5",
    "road": "#E69F00",
    "lora-8-qv": "#a8adb5",
    "ours-qv": "#56B4E9",
    "ours": "#0072B2",
    "ours-bare": "#56B4E9",
    "ours-fleet": "#009E73",
    "ours-together": "#009E73",
}
MARKERS = dict(zip(COLOURS, "Xsd^DPovph", strict=True))


def draw_plots(rows: Sequence[Row], folder: Path) -> dict[str, list[Path]]:
    """Draw what the rows allow, one file per suite, device and dtype; return the files of each suite."""
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[Path]] = {}
    for device, dtype in dict.fromkeys((row["device"], row["dtype"]) for row in rows):
        here = [row for row in rows if (row["device"], row["dtype"]) == (device, dtype) and "cannot" not in row]
        for suite, baseline in RATIOS.items():
            timed = [
                row for row in here if row["suite"] == suite and row["contender"] in COLOURS and row["unit"] == "s"
            ]
            if timed:
                figure, name = draw_ratios(timed, baseline), f"{suite}_{device}_{dtype}.png"
                written.setdefault(suite, []).append(_save(figure, folder / name))
        for command in SPEEDS:
            speeds = [row for row in here if row["suite"] == command and row["unit"] == "rows/s"]
            if speeds:
                name = f"{command}_{device}_{dtype}.png"
                written.setdefault(command, []).append(_save(draw_speeds(speeds), folder / name))
        widths = [row for row in here if row["suite"] == "widths"]
        if widths:
            written.setdefault("widths", []).append(_save(draw_widths(widths), folder / f"widths_{device}_{dtype}.png"))
        layers = [row for row in here if row["suite"] == "layer"]
        for direction in dict.fromkeys(row["shapes"]["direction"] for row in layers):
            group = [row for row in layers if row["shapes"]["direction"] == direction]
            name = f"layer_{direction.replace('+', '_')}_{device}_{dtype}.png"
            written.setdefault("layer", []).append(_save(draw_map(group, direction), folder / name))
    return written


def draw_ratios(rows: Sequence[Row], baseline: str) -> Figure:
    """Ratios to the baseline, a group a case, whiskers at the 20th and 80th percentile; axis logarithmic."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    methods = [name for name in COLOURS if any(row["contender"] == name for row in rows)]
    figure = new_figure(max(8, 1.1 * len(cases)), 5)
    axes = figure.subplots()
    for i, method in enumerate(methods):
        found = [row for row in rows if row["contender"] == method]
        places = [cases.index(row["case"]) + 0.12 * (i - (len(methods) - 1) / 2) for row in found]
        heights = [row["ratio_median"] for row in found]
        below = [row["ratio_median"] - row["ratio_p20"] for row in found]
        above = [row["ratio_p80"] - row["ratio_median"] for row in found]
        style: dict[str, Any] = {"fmt": MARKERS[method], "markersize": 5, "capsize": 2, "color": COLOURS[method]}
        axes.errorbar(places, heights, [below, above], label=LABELS[method], **style)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in TICKS if low <= tick <= high])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", linewidth=0.4)
    axes.set_xticks(range(len(cases)), cases, rotation=30, ha="right")
    axes.set_ylabel(f"time, {baseline} = 1")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    return figure


def draw_speeds(rows: Sequence[Row]) -> Figure:
    """Bars of what is done in a second, a bar a figure."""
    figure = new_figure(8, 0.8 + 0.5 * len(rows))
    axes = figure.subplots()
    bars = axes.barh([row["contender"] for row in rows], [row["median"] for row in rows], color=COLOURS["ours-fleet"])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.margins(x=0.1)  # room for the labels
    axes.invert_yaxis()
    axes.set_xlabel(rows[0]["unit"])
    axes.set_title("; ".join(dict.fromkeys(row["case"] for row in rows)), fontsize=9)
    return figure


def draw_widths(rows: Sequence[Row]) -> Figure:
    """Nanoseconds an element over the width, both axes logarithmic, a line a contender."""
    figure = new_figure(10, 5)
    axes = figure.subplots()
    for name, colour in {"torch": COLOURS["stock"], "ours": COLOURS["ours"]}.items():
        found = sorted((row["shapes"]["width"], 1e9 * row["median"]) for row in rows if row["contender"] == name)
        axes.plot(
            *zip(*found, strict=True),
            marker="X" if name == "torch" else "o",
            markersize=4,
            color=colour,
            label=LABELS[name],
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(linewidth=0.4, which="both")
    axes.set_xlabel("width of a layer's input or output")
    axes.set_ylabel("ns an element, there and back")
    axes.legend()
    return figure


def draw_map(rows: Sequence[Row], direction: str) -> Figure:
    """Heat maps over shapes and tokens, a line an n: ours as a multiple of the base, and the token view's lead."""
    shapes = sorted({(row["shapes"]["out"], row["shapes"]["in"]) for row in rows}, key=lambda shape: math.prod(shape))
    tokens = sorted({row["shapes"]["tokens"] for row in rows})
    counts = sorted({row["shapes"]["n"] for row in rows})
    size = (5 + 1.2 * len(tokens), (1.4 + 0.5 * len(shapes)) * len(counts))
    figure = new_figure(*size)
    grid = figure.subplots(len(counts), 2, squeeze=False)
    figure.suptitle(f"one layer, {direction}")
    for line, n in zip(grid, counts, strict=True):
        ratio = [[_ratio(rows, shape, t, n) for t in tokens] for shape in shapes]
        lead = [[_lead(rows, shape, t, n) for t in tokens] for shape in shapes]
        _heat(line[0], ratio, shapes, tokens, f"n = {n}: ours / frozen base", "{:.2f}", "Reds")
        _heat(line[1], lead, shapes, tokens, f"n = {n}: weight view / token view", "{:.2g}", "coolwarm_r")
    return figure


def _heat(
    axes: Axes,
    values: Sequence[Sequence[float | None]],
    shapes: Sequence[tuple[int, int]],
    tokens: Sequence[int],
    title: str,
    form: str,
    colours: str,
) -> None:
    levels = [[math.nan if v is None else math.log2(v) for v in line] for line in values]
    reach = 2 if colours == "Reds" else 3
    axes.imshow(levels, cmap=colours, vmin=0 if colours == "Reds" else -reach, vmax=reach, aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            axes.text(x, y, "" if value is None else form.format(value), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(tokens)), [str(count) for count in tokens])
    axes.set_yticks(range(len(shapes)), [f"{o} x {i}" for o, i in shapes])
    axes.set_xlabel("tokens")
    axes.set_title(title, fontsize=9)


def _found(rows: Sequence[Row], shape: tuple[int, int], tokens: int, n: int) -> dict[str, Row]:
    wanted = {"out": shape[0], "in": shape[1], "tokens": tokens, "n": n}
    return {row["contender"]: row for row in rows if wanted.items() <= row["shapes"].items()}


def _ratio(rows: Sequence[Row], shape: tuple[int, int], tokens: int, n: int) -> float | None:
    ours = _found(rows, shape, tokens, n).get("ours")
    return ours["ratio_median"] if ours else None


def _lead(rows: Sequence[Row], shape: tuple[int, int], tokens: int, n: int) -> float | None:
    found = _found(rows, shape, tokens, n)
    if not {"ours-weight", "ours-token"} <= set(found):
        return None
    return found["ours-weight"]["median"] / found["ours-token"]["median"]


def _save(figure: Figure, path: Path) -> Path:
    save_figure(figure, path, dpi=120)
    return path

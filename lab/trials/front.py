"""README's picture and table: what FourierFT reaches beside LoRA on the same layers, and for how many bytes.

    python -m lab trials front

Reads docs/quality/TASK/runs.jsonl, as `python -m lab trials curve` does, and the times in docs/performance.md; trains
and times nothing. Writes the table to its place in README.md; draws docs/img/front.png.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.tables import Table, markdown_table
from fourierft.training.comparison.plots import COLOURS
from fourierft.training.comparison.results import BASELINE, Row, by_method, by_rate, mean_score
from lab import pages
from lab.folders import DOCS, ROOT
from lab.trials.curve import LAYERS, best_rate, same_layers

PICTURE = DOCS / "img" / "front.png"
README = ROOT / "README.md"
PERFORMANCE = DOCS / "performance.md"
TIMES = {  # what is timed -> its line in PERFORMANCE
    "time of a training step": "qwen2.5-0.5b, 2 layers, step",
    "time to decode 16 rows with 8 adapters": "qwen2.5-0.5b, 2 layers, 16 rows, 8 adapters",
}
METHODS = {"lora:8": "LoRA r=8", "lora:1": "LoRA r=1", "fourierft:340": "FourierFT n=340"}
TASKS = {
    "movies": "MiniLM-L6, movie sentences",
    "digits": "DINOv2-small, digits",
    "instructions": "SmolLM2-135M, instructions",
    "qwen-0.5b": "Qwen2.5-0.5B, glosses of words",
    "qwen-1.5b": "Qwen2.5-1.5B, glosses of words",
}
LABELS = {  # of each task's line: the method at whose mark it stands, and how far from it, in points
    "movies": ("fourierft:340", (-4, -17)),
    "digits": ("fourierft:340", (-4, 9)),
    "instructions": ("fourierft:340", (-4, -17)),
    "qwen-0.5b": ("lora:1", (8, -4)),
    "qwen-1.5b": ("fourierft:340", (-14, 9)),
}


class Point(NamedTuple):
    """A method on a task, at its best rate."""

    score: float
    numbers: int
    size: int  # bytes of the adapter's file without its head


def points(rows: list[Row]) -> dict[str, Point]:
    """Method -> what it reaches; those that were not run are left out."""
    groups = by_method(rows)
    found = {}
    for method in METHODS:
        if group := groups.get(method + LAYERS):
            best = by_rate(group)[best_rate(group)]
            score = mean_score(best)
            if score is not None:
                found[method] = Point(score, best[0]["parameters"]["adapter"], best[0]["bytes"]["adapter"])
    return found


def before(rows: list[Row]) -> float:
    """The score of the head alone, or of the base where there is none."""
    score = mean_score(by_method(rows)[BASELINE])
    assert score is not None
    return score


def table(found: Mapping[str, list[Row]]) -> Table:
    """Headings, a row a task, then the numbers and bytes of one of them."""
    cells: list[tuple[str, ...]] = [("", "before", *METHODS.values())]
    for task, rows in found.items():
        reached = points(rows)
        name = f"{TASKS[task]}: {'loss, lower is better' if rows[0]['lower_is_better'] else 'accuracy'}"
        shown = [f"{reached[method].score:.3f}" if method in reached else "not run" for method in METHODS]
        cells.append((name, f"{before(rows):.3f}", *shown))
    sizes = points(found["qwen-0.5b"])
    cells.append(("Qwen2.5-0.5B: trained numbers", "", *(f"{sizes[method].numbers:,}" for method in METHODS)))
    cells.append(("Qwen2.5-0.5B: bytes of the adapter", "", *(_bytes(sizes[method].size) for method in METHODS)))
    for what, line in TIMES.items():
        lora, ours = times(line)
        cells.append((f"Qwen2.5-0.5B: {what}, times the base's", "1", lora, "not run", ours))
    return cells


def times(line: str) -> tuple[str, str]:
    """LoRA r=8's and FourierFT's time as a multiple of the base's: the medians of a line of docs/performance.md."""
    text = PERFORMANCE.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\|  \|([^\n]+)\n(?:\|[^\n]*\n)*?\| {re.escape(line)} \|([^\n]+)$", text, re.MULTILINE)
    names, cells = ([cell.strip() for cell in part.split("|")] for part in found)
    lora, ours = (cells[names.index(name)].partition(" ")[0] for name in ("LoRA r=8", "ours"))
    return lora, ours


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def draw(found: Mapping[str, list[Row]], file: Path) -> None:
    """Share of LoRA r=8's gain against bytes, a line a task."""
    figure = new_figure(5.8, 4.2)
    axes = figure.subplots()
    for task, rows in found.items():
        reached, start = points(rows), before(rows)
        gain = reached["lora:8"].score - start
        line = {method: (point.size, 100 * (point.score - start) / gain) for method, point in reached.items()}
        axes.plot(*zip(*line.values(), strict=True), color="0.75", linewidth=1.2, zorder=1)
        for method, place in line.items():
            is_ours = method.startswith("fourierft")
            axes.plot(
                *place,
                linestyle="",
                marker="o" if is_ours else ("s" if method == "lora:8" else "^"),
                markersize=10 if is_ours else 7,
                color=COLOURS["fourierft" if is_ours else "lora"],
                label=METHODS[method] if task == next(iter(found)) else None,
            )
        method, offset = LABELS[task]
        axes.annotate(TASKS[task].partition(",")[0], line[method], offset, textcoords="offset points", fontsize=11)
    axes.set_xscale("log")
    axes.set_xlim(3e4, 8e7)
    axes.set_ylim(82, 103)
    axes.set_yticks([85, 90, 95, 100], ["85%", "90%", "95%", "100%"])
    axes.set_xticks([1e5, 1e6, 1e7], ["100 kB", "1 MB", "10 MB"])
    axes.set_xlabel("size of the adapter")
    axes.set_ylabel("share of LoRA r=8's gain")
    axes.tick_params(labelsize=11)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=11, loc="lower right")
    save_figure(figure, file)


def run(arguments: argparse.Namespace) -> int:
    found = {task: same_layers(task) for task in TASKS}
    draw(found, PICTURE)
    pages.fill_page(README, {"front": lambda: markdown_table(table(found))})
    return 0

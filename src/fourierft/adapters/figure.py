"""A figure, made with matplotlib if it is here, and written whole or not at all."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fourierft.errors import ConfigError, PlaceError
from fourierft.extras import needs
from fourierft.files import file_beside, written_to

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Label = tuple[str, tuple[float, float], str]
"""Text, the point that it names, colour."""

# Where a label may stand beside its point, in points of print, the best first.
OFFSETS = (
    (6, 5),
    (6, -5),
    (-6, 5),
    (-6, -5),
    (0, 8),
    (0, -8),
    (8, 0),
    (-8, 0),
    (10, 16),
    (10, -16),
    (-10, 16),
    (-10, -16),
    (16, 28),
    (16, -28),
    (-16, 28),
    (-16, -28),
)
NEAR = 10  # points of print; a label further away has a line to its point
INK, ACCENT = "#1f2430", "#2f6f8f"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches.

    Raises: MissingExtraError, without matplotlib.
    """
    with needs("train", "drawing a picture"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def use_log_scale(axes: Axes) -> None:
    """Make an x axis logarithmic, with ticks that have room: 1, 2 and 5 of each decade if there are few, else decades.

    Args:
        axes: with everything that decides where they begin and end.
    """
    with needs("train", "drawing a picture"):
        from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 100 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        large = EngFormatter(sep="")  # 50k, 2M
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 10_000 else large(value))
    axes.xaxis.set_minor_formatter(NullFormatter())


def place_labels(axes: Axes, labels: Sequence[Label], size: float = 8) -> None:
    """Write labels beside their points, none on another or on a point; one that finds no room is left out.

    Of the places that are free, a label takes one that lines cross least, and lies above them. A thin line leads to a
    point that is not next to it.

    Args:
        axes: whose figure is otherwise finished.
        labels: short ones are placed first.
        size: of the letters, in points.
    """
    with needs("train", "drawing a picture"):
        from matplotlib.patheffects import withStroke
        from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()  # which settles the layout
    taken = [
        Bbox.from_extents(x - 5, y - 5, x + 5, y + 5)
        for x, y in map(axes.transData.transform, (point for _, point, _ in labels))
    ]
    inked = _points_of_lines(axes)
    around = [withStroke(linewidth=2.5, foreground=axes.get_facecolor())]
    for text, point, colour in sorted(labels, key=lambda label: len(label[0])):
        label = axes.annotate(
            text, point, (0, 0), textcoords="offset points", fontsize=size, color=colour, zorder=5, path_effects=around
        )
        label.set_in_layout(False)
        free = []
        for offset in OFFSETS:
            box = _move(label, offset)
            if not any(box.overlaps(other) for other in taken) and _lies_within(box, axes.bbox):
                free.append((box.count_contains(inked), offset))
        if free:
            _, best = min(free, key=lambda place: place[0])  # the first of those
            taken.append(_move(label, best))
            if max(map(abs, best)) > NEAR:
                _lead(axes, point, best, colour)
        else:
            label.remove()


def _lead(axes: Any, point: tuple[float, float], offset: tuple[float, float], colour: str) -> None:
    """A thin line from a point to an offset from it."""
    with needs("train", "drawing a picture"):
        from matplotlib.lines import Line2D

    begin = axes.transData.transform(point)
    end = begin + np.array(offset) * axes.figure.dpi / 72
    across, up = axes.transData.inverted().transform([begin, end]).T
    axes.add_artist(Line2D(across, up, color=colour, linewidth=0.6))


def _move(label: Any, offset: tuple[float, float]) -> Bbox:
    """Let a label stand at an offset from its point, on that side of it; the room that it takes."""
    across, up = offset
    label.set_position(offset)
    label.set(
        ha="left" if across > 0 else "right" if across < 0 else "center",
        va="bottom" if up > 0 else "top" if up < 0 else "center",
    )
    return label.get_window_extent()


def _points_of_lines(axes: Axes) -> np.ndarray:
    """Points along every line of a plot, bars of error too, a pixel or two apart, in pixels, [points, 2]."""
    with needs("train", "drawing a picture"):
        from matplotlib.collections import LineCollection

    lines: list[Any] = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    for bars in axes.collections:
        if isinstance(bars, LineCollection):
            lines += [axes.transData.transform(segment) for segment in bars.get_segments()]
    parts = [np.empty((0, 2))]
    for line in lines:
        for begin, end in itertools.pairwise(line[np.isfinite(line).all(1)]):
            steps = max(2, min(2000, int(np.hypot(*(end - begin)) / 2)))
            parts.append(np.linspace(begin, end, steps))
    return np.concatenate(parts)


def _lies_within(box: Bbox, whole: Any) -> bool:
    return bool(box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0 and box.y1 <= whole.y1)


def save_figure(figure: Figure, file: str | Path, dpi: int = 130) -> None:
    """Write a figure; the format follows the file's ending, such as .png or .svg; a file that is there is replaced.

    Args:
        figure: to write.
        file: in a folder that is there.
        dpi: pixels an inch.

    Raises: ConfigError, if the ending is no format or there is no such folder. PlaceError, if nothing can be written.
    """
    file = Path(file)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=file.suffix.removeprefix(".") or "png", dpi=dpi)
    except ValueError as error:
        raise ConfigError(f"{file} does not end in a known picture format ({error}); use .png") from error
    try:
        with written_to(file), file_beside(file) as beside:
            beside.write_bytes(picture.getvalue())
    except PlaceError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write {file} ({error.strerror}); name a file in a folder that exists") from error

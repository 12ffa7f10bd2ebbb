"""A figure, made with matplotlib if it is here, and written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
INK, ACCENT = "#1f2430", "#2f6f8f"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches.

    Raises: MissingExtraError, without matplotlib.
    """
    with needs("train", "drawing a picture"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def place_labels(axes: Axes, labels: Sequence[Label], size: float = 8) -> None:
    """Write labels beside their points, none on another or on a point; one that finds no room is left out.

    Args:
        axes: whose figure is otherwise finished.
        labels: short ones are placed first.
        size: of the letters, in points.
    """
    with needs("train", "drawing a picture"):
        from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()  # which settles the layout
    taken = [
        Bbox.from_extents(x - 4, y - 4, x + 4, y + 4)
        for x, y in map(axes.transData.transform, (point for _, point, _ in labels))
    ]
    for text, point, colour in sorted(labels, key=lambda label: len(label[0])):
        for across, up in OFFSETS:
            side = "left" if across > 0 else "right" if across < 0 else "center"
            height = "bottom" if up > 0 else "top" if up < 0 else "center"
            label = axes.annotate(
                text, point, (across, up), textcoords="offset points", fontsize=size, color=colour, ha=side, va=height
            )
            label.set_in_layout(False)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken) and _lies_within(box, axes.bbox):
                taken.append(box)
                break
            label.remove()


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
        raise ConfigError(f"{file} ends in no picture format known here ({error}); use .png") from error
    try:
        with written_to(file), file_beside(file) as beside:
            beside.write_bytes(picture.getvalue())
    except PlaceError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write {file} ({error.strerror}); name a file in a folder that is there") from error

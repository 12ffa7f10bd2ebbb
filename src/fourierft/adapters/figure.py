"""A figure, made with matplotlib if it is here, and written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fourierft.errors import ConfigError, PlaceError
from fourierft.extras import needs
from fourierft.files import file_beside, written_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, ACCENT = "#1f2430", "#2f6f8f"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches.

    Raises: MissingExtraError, without matplotlib.
    """
    with needs("train", "drawing a picture"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


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

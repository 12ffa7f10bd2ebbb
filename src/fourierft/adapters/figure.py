"""A figure, made with matplotlib if it is here, and written whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fourierft.errors import ConfigError
from fourierft.extras import needs

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


def save_figure(figure: Figure, file: str | Path) -> None:
    """Write a figure; the format follows the file's ending, such as .png or .svg; a file that is there is replaced.

    Raises: ConfigError, if the ending is no format or the file cannot be written.
    """
    file = Path(file)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=file.suffix.removeprefix(".") or "png", dpi=130)
    except ValueError as error:
        raise ConfigError(f"{file} ends in no picture format known here ({error}); use .png") from error
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        with os.fdopen(handle, "wb") as sink:
            sink.write(picture.getvalue())
        os.chmod(beside, 0o644)
        os.replace(beside, file)
    except OSError as error:
        raise ConfigError(f"cannot write {file} ({error.strerror}); name a file in a folder that is there") from error

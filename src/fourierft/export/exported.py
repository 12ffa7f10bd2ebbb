"""What an export says of itself: how far its result is from the adapter, and what it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fourierft.errors import ExportError
from fourierft.tables import Table

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3  # of the largest output, float32: rounding is some 1e-6, another model some 1e-1


@dataclass(frozen=True)
class Difference:
    """How far outputs are from those they stand for.

    Attributes:
        absolute: the largest difference.
        relative: the same as a share of the largest output that was to be had.
    """

    absolute: float
    relative: float

    def __str__(self) -> str:
        return f"off by {self.absolute:.1e} at most, {self.relative:.1e} of the largest"


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        output: what was made.
        notes: sentences to print.
        sizes: what it is made of -> bytes.
        table: rows to print, the first of them names; empty if there is nothing to tell layer by layer.
    """

    output: Path
    notes: list[str]
    sizes: dict[str, int]
    table: Table = ()


def measure_difference(found: Tensor, expected: Tensor) -> Difference:
    """Compare outputs of one shape.

    Raises: ExportError, if there are none, they have another shape, or any is not finite where it should be.
    """
    if found.shape != expected.shape or not found.numel():
        raise ExportError(f"the result gives {list(found.shape)} where the adapter gives {list(expected.shape)}")
    absolute = float((found.double() - expected.double()).abs().max())
    return Difference(absolute, absolute / max(float(expected.double().abs().max()), 1e-30))


def check_difference(found: Tensor, expected: Tensor, what: str) -> Difference:
    """`measure_difference` of what should be equal but for rounding.

    Args:
        what: was run, for the message.

    Raises: ExportError, if it is not.
    """
    difference = measure_difference(found, expected)
    if not difference.relative <= TOLERANCE:  # NaN is none either
        raise ExportError(
            f"{what} is {difference}, more than {TOLERANCE:g}, so nothing was written; "
            "please report this with the model and the adapter"
        )
    return difference


def file_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in path.rglob("*")) if path.is_dir() else path.stat().st_size

"""What a label says: the name of a class, or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from fourierft.training.cells import as_text

IGNORED = -100  # label of a token that is not to be learned
Where = Callable[[int], str]
"""Names the row of a label by its index, for errors."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WITH_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+", re.ASCII)  # 4,5 and 1.234,5
_IN_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d+", re.ASCII)  # 1,234.5


def by_index(index: int) -> str:
    """Names a row by its place in the order."""
    return f"row {index + 1}"


def class_name(value: Any) -> str:
    """The name of a class: a label as it is written, without blanks around it; a float that is whole as an integer."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return (as_text(value) or str(value)).strip()


def read_number(text: str) -> float | None:
    """The finite number that a text is, written with digits; None if it is none."""
    number = float(text) if _NUMBER.fullmatch(text.strip()) else math.inf
    return number if math.isfinite(number) else None


def plain_number(text: str) -> str | None:
    """How a number with a decimal comma, or with thousands set apart, is to be written; None of another text."""
    if _WITH_COMMA.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    return text.replace(",", "") if _IN_GROUPS.fullmatch(text) else None


def shorten(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

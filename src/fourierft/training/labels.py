"""What a label says: the name of a class, or a number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from fourierft.errors import DataError
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


def read_list(value: Any) -> list[Any] | None:
    """The list that a cell is, or that its text is as JSON; None if it is none."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def by_number(name: str) -> tuple[int, float, str]:
    """The key by which names of labels are sorted: numbers first, in their order."""
    number = read_number(name)
    return (1, 0.0, name) if number is None else (0, number, name)


def named_outputs(labels: Sequence[str]) -> dict[str, Any]:
    """What a model's config must say of outputs that have names."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def number_labels(names: Sequence[str], labels: Sequence[str], where: Where, is_one_a_row: bool = True) -> list[int]:
    """The numbers of labels.

    A whole number is the label of its name with or without `.0`, which some programs write and others do not, unless
    both are labels.

    Args:
        names: to number.
        labels: that training saw, in their order.
        where: names the row of one of `names`.
        is_one_a_row: whether as many rows as names are meant.

    Raises: DataError, if one was not in the training data.
    """
    numbers = {label: index for index, label in enumerate(labels)}
    for label, index in tuple(numbers.items()):
        if re.fullmatch(r"-?\d+(\.0)?", label):
            numbers.setdefault(label.removesuffix(".0") if label.endswith(".0") else f"{label}.0", index)
    unknown = [index for index, name in enumerate(names) if name not in numbers]
    if unknown:
        others = shorten(sorted({names[index] for index in unknown}))
        counted = "rows have such labels" if is_one_a_row else "labels are such"
        raise DataError(
            f"{where(unknown[0])} has the label {names[unknown[0]]}, which training "
            f"did not see ({len(unknown)} of {len(names)} {counted}: {others}); it knows "
            f"{shorten(labels)}; correct or remove such rows"
        )
    return [numbers[name] for name in names]


def shorten(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

"""Which task a column of labels calls for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fourierft.errors import ConfigError, DataError
from fourierft.training.labels import Where, by_index, class_name, plain_number, read_number
from fourierft.training.tasks import Classification, Regression, Task, shorten

FEW_CLASSES = 20


def detect_task(
    values: Sequence[Any], wanted: str, column: str, declared: Sequence[str] = (), where: Where = by_index
) -> Task:
    """The task the labels call for.

    Args:
        values: labels of all training rows; a column of numbers, fractions among them, makes a regression, anything
            else a classification.
        wanted: auto, or the name of a task that gives labels.
        column: where the labels stand, for errors.
        declared: the classes that the data set itself names, in its order; those found, sorted, if it names none.

    Raises: ConfigError, if the task is unknown. DataError, if the labels can't be those of a task.
    """
    if wanted not in ("auto", "classification", "regression"):
        raise ConfigError(f"task={wanted} is unknown; use classification, regression, answers, chat or auto")
    if wanted == "regression":
        return Regression()
    labels = [class_name(value) for value in values]
    if wanted == "auto" and not declared and _are_fractions(labels, column, where):
        return Regression()
    names = set(labels)
    if len(names) < 2:
        raise DataError(
            f"column {column} holds the one label {shorten(sorted(names))}; a class needs another to differ from"
        )
    if declared:
        return Classification(tuple(declared))
    if wanted == "auto" and len(names) > max(FEW_CLASSES, len(values) // 2):
        raise DataError(
            f"column {column} has {len(names)} different labels in {len(values)} rows, too many for classes; "
            "name another --label_column, or give --task classification or --task regression"
        )
    return Classification(tuple(sorted(names, key=_order)))


def _are_fractions(labels: Sequence[str], column: str, where: Where) -> bool:
    """Whether labels are numbers, fractions among them.

    Raises: DataError, if only some of them are, or they have a decimal comma.
    """
    numbers = [read_number(label) for label in labels]
    fraction = next((k for k, number in enumerate(numbers) if number is not None and not number.is_integer()), None)
    word = next((k for k, number in enumerate(numbers) if number is None), None)
    if fraction is not None and word is not None:
        raise DataError(
            f"column {column} holds numbers, as {labels[fraction]} in {where(fraction)}, but {labels[word]} in "
            f"{where(word)} is none; mend or remove such rows, or give --task classification if all are names"
        )
    if word is not None and all(plain_number(label) or read_number(label) is not None for label in labels):
        raise DataError(
            f"column {column} holds {labels[word]} in {where(word)}, which looks like a number with a decimal comma or "
            f"groups of digits; write {plain_number(labels[word])}, or give --task classification if it is a name"
        )
    return fraction is not None


def _order(name: str) -> tuple[int, float, str]:
    number = read_number(name)
    return (1, 0.0, name) if number is None else (0, number, name)

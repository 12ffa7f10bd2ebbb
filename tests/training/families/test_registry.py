"""Which task a column of labels is, decided for the whole of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from datasets import Dataset

from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.families.classes import Classification
from fourierft.training.families.family import Family
from fourierft.training.families.registry import find_families, learn
from fourierft.training.families.regression import Regression

TEXTS = Dataset.from_dict({"text": ["a"], "label": ["b"]})


def detect_task(values: list[Any], wanted: str, column: str, declared: Sequence[str] = ()) -> Family:
    """The family of texts with these labels."""
    return learn(find_families(TEXTS, DataArguments(task=wanted)), values, wanted, column, declared)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no", "yes"], Classification(("no", "yes"))),
        ([10, 9, 2], Classification(("2", "9", "10"))),
        ([True, False], Classification(("False", "True"))),
        ([1.0, 0.0, 1.0], Classification(("0", "1"))),
        ([0.5, 1.0, -2.0], Regression()),
        (["0.5", "1", "-2e-1"], Regression()),
        (["001", "01", "10"], Classification(("001", "01", "10"))),
        (["1e1", "10", "1.0"], Classification(("1.0", "10", "1e1"))),
        (["NA", "None", "null", "nan"], Classification(("NA", "None", "nan", "null"))),
        ([" yes", "yes ", "no"], Classification(("no", "yes"))),
        (["true", "True", "TRUE"], Classification(("TRUE", "True", "true"))),
        (["1_000", "2"], Classification(("2", "1_000"))),
        ([Decimal("1.50"), Decimal("2")], Regression()),
    ],
)
def test_task_follows_from_the_labels(values: list[Any], task: Classification | Regression) -> None:
    assert detect_task(values, "auto", "label") == task


def test_wanted_task_wins() -> None:
    assert detect_task([1, 2, 3], "regression", "label") == Regression()
    assert detect_task([f"n{i}" for i in range(100)], "classification", "label").model_settings()["num_labels"] == 100


@pytest.mark.parametrize(
    ("values", "wanted", "kind", "message"),
    [
        (["a"] * 5, "auto", DataError, "has only the label a"),
        (
            [f"title {i}" for i in range(100)],
            "auto",
            DataError,
            "100 different labels in 100 rows, too many for classes",
        ),
        (
            ["0.5", "1", "good"],
            "auto",
            DataError,
            "numbers, such as 0.5 in row 1, but good in row 3 is not a number; correct",
        ),
        (
            ["0,5", "1", "1,25"],
            "auto",
            DataError,
            "0,5 in row 1, which looks like a number with a decimal comma or groups of digits; write 0.5",
        ),
        (
            ["1.234,5", "3", "-2.000.000,25"],
            "auto",
            DataError,
            "1.234,5 in row 1, which looks like a number with a decimal comma or groups of digits; write 1234.5,",
        ),
        (["1", "1,234,567.5"], "auto", DataError, "1,234,567.5 in row 2, .* groups of digits; write 1234567.5,"),
        (
            [1, 2],
            "ranking",
            ConfigError,
            "use classification, regression, multi_label_classification, token_classification, answers, chat, "
            "preferences or auto",
        ),
    ],
)
def test_labels_of_no_task_are_refused(values: list[Any], wanted: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        detect_task(values, wanted, "mood")


def test_classes_that_the_data_set_names_keep_its_order() -> None:
    task = detect_task(["not_equivalent", "equivalent"], "auto", "label", ["not_equivalent", "equivalent", "unsure"])
    assert task == Classification(("not_equivalent", "equivalent", "unsure"))


def test_names_that_look_like_numbers_are_names_if_the_user_says_so() -> None:
    assert detect_task(["3.9", "3.10"], "classification", "label").labels == ("3.10", "3.9")
    assert detect_task(["0,5", "x"], "classification", "label").labels == ("0,5", "x")

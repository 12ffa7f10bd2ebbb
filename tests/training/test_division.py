"""Rows to hold out: the shares of classes by hand, and never the last row of one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from fourierft.errors import DataError
from fourierft.training.division import divide_rows, sample_rows


def shares(classes: str, fraction: float, seed: int = 0) -> dict[str, int]:
    """Rows held out of each class, each a letter."""
    train, held_out = divide_rows(len(classes), fraction, seed, [ord(letter) for letter in classes])
    assert sorted(train + held_out) == list(range(len(classes)))
    return dict(Counter(classes[row] for row in held_out))


@pytest.mark.parametrize(
    ("classes", "fraction", "expected"),
    [
        ("a" * 80 + "b" * 20, 0.1, {"a": 8, "b": 2}),
        ("a" * 70 + "b" * 24 + "c" * 6, 0.1, {"a": 7, "b": 2, "c": 1}),  # of 7, 2.4 and 0.6
        ("a" * 50 + "b" * 3 + "c", 0.1, {"a": 5}),  # of 4.63, 0.28 and 0.09
        ("aab", 0.34, {"a": 1}),
        ("ab" * 5, 0.9, {"a": 4, "b": 4}),  # nine are asked for, but each class keeps one
        ("aaaab", 0.8, {"a": 3}),
    ],
)
def test_each_class_gives_its_share_and_keeps_a_row(classes: str, fraction: float, expected: dict[str, int]) -> None:
    for seed in range(4):
        assert shares(classes, fraction, seed) == expected


def test_without_classes_the_draw_is_that_of_datasets() -> None:
    train, held_out = divide_rows(40, 0.25, 3)
    parts = Dataset.from_dict({"row": list(range(40))}).train_test_split(test_size=10, seed=3)
    assert (train, held_out) == (parts["train"]["row"][:], parts["test"]["row"][:])
    shuffled = Dataset.from_dict({"row": list(range(40))}).shuffle(seed=3)
    assert sample_rows(40, 8, 3) == shuffled["row"][:8]


def test_the_draw_follows_the_seed() -> None:
    classes = np.arange(60) % 3
    draws = [divide_rows(60, 0.2, seed, classes.tolist())[1] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("count", "fraction", "classes", "message"),
    [
        (10, 1.0, None, "validation_fraction=1.0 is not between 0 and 1; use 0.1 for a tenth"),
        (
            1,
            0.5,
            None,
            "one row cannot be split into training and validation data; give more rows, or --validation_file",
        ),
        (3, 0.5, [0, 1, 2], "no class has two rows, so none can be held out for evaluation; give more rows"),
    ],
)
def test_rows_that_can_not_be_divided_are_refused(
    count: int, fraction: float, classes: list[int] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        divide_rows(count, fraction, 0, classes)


def test_some_rows_are_left_on_both_sides() -> None:
    assert [len(part) for part in divide_rows(2, 0.8, 0)] == [1, 1]
    assert [len(part) for part in divide_rows(10, 0.99, 0)] == [1, 9]
    assert [len(part) for part in divide_rows(10, 0.01, 0)] == [9, 1]
    with pytest.raises(DataError, match="a limit of 0 samples leaves no rows; use at least 1"):
        sample_rows(5, 0, 0)
    assert sample_rows(5, None, 0) is sample_rows(5, 5, 0) is None

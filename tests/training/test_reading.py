"""Rows, checked as their files have them, and divided by class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.data import load_splits
from fourierft.training.reading import divide, read_rows


def write_reviews(path: Path, count: int, **cells: dict[int, str]) -> DataArguments:
    """Data of so many rows with the columns text and label, some cells of which are other ones, by row from 1 on."""
    lines = [
        f"{cells.get('text', {}).get(k, f'film {k}')},{cells.get('label', {}).get(k, ('no', 'yes')[k % 2])}"
        for k in range(1, count + 1)
    ]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return DataArguments(train_file=str(path))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            {"label": {61: ""}},
            r"column label is empty in 1 of 100 rows, first in row 61 of .*reviews\.csv; fill or remove",
        ),
        ({"text": {61: " "}}, r"column text is empty in 1 of 100 rows, first in row 61 of .*reviews\.csv"),
        ({"label": {61: "\"['a', 'b']\""}}, r"\"\['a', 'b'\]\" in row 61 of .*reviews\.csv, a list of labels"),
        (
            {"label": {61: "0.5"}},
            r"has numbers, such as 0.5 in row 61 of .*, but yes in row 1 of .*reviews\.csv is not a number",
        ),
    ],
)
def test_rows_are_checked_as_the_file_has_them(tmp_path: Path, cells: dict[str, Any], message: str) -> None:
    data = write_reviews(tmp_path / "reviews.csv", 100, **cells)
    with pytest.raises(DataError, match=message):
        read_rows(load_splits(data), data)


def test_a_label_that_only_validation_has_is_told_with_its_row(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "train.csv", 10)
    data.validation_file = write_reviews(tmp_path / "validation.csv", 8, label={7: "maybe"}).train_file
    with pytest.raises(DataError, match=r"row 7 of .*validation\.csv has the label maybe, which training did not see"):
        read_rows(load_splits(data), data)


def test_classes_keep_their_shares_on_both_sides(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.csv", 60, label=dict.fromkeys((5, 6, 7, 8, 9, 10), "rare"))
    data.validation_fraction = 1 / 6
    for seed in range(5):
        reading = divide(read_rows(load_splits(data), data), data, seed)
        names = {split: [reading.family.labels[label] for label in own] for split, own in reading.labels.items()}
        assert Counter(names["validation"]) == {"no": 5, "yes": 4, "rare": 1} or Counter(names["validation"]) == {
            "no": 4,
            "yes": 5,
            "rare": 1,
        }
        assert sorted(reading.rows["train"]["text"][:] + reading.rows["validation"]["text"][:]) == sorted(
            f"film {k}" for k in range(1, 61)
        )
        for split, own in names.items():
            assert reading.rows[split]["label"][:] == own, "labels go with their rows"


def test_a_class_of_one_row_is_always_trained_on(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.csv", 40, label={3: "once"})
    for seed in range(8):
        reading = divide(read_rows(load_splits(data), data), data, seed)
        assert len(reading.rows["validation"]) == 4
        assert "once" in reading.rows["train"]["label"][:]


def test_samples_leave_classes_and_numbers_as_they_are(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.csv", 40, label={3: "once"})
    data.max_train_samples, data.max_eval_samples = 2, 1
    reading = divide(read_rows(load_splits(data), data), data, 0)
    assert {name: len(rows) for name, rows in reading.rows.items()} == {"train": 2, "validation": 1}
    assert reading.family.labels == ("no", "once", "yes")
    row = reading.rows["train"][1]
    assert row["text"] == f"film {row['__row__']}"

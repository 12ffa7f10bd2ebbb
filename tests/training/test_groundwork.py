"""Groundwork: the same task, labels and record, whoever builds on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from fourierft.errors import DataError
from fourierft.training import run
from fourierft.training.arguments import Arguments, DataArguments, MethodArguments, ModelArguments
from fourierft.training.columns import Columns
from fourierft.training.data import load_splits
from fourierft.training.fleet import run as fleet_run
from fourierft.training.fleet.settings import FleetArguments, FleetSettings
from fourierft.training.groundwork import Groundwork, divide, lay_groundwork, read_rows

TEXTS = ["the film is good", "a book was so bad", "the film is fine"]


@pytest.fixture
def ground(tiny_bert: Path) -> Groundwork:
    rows = {"train": Dataset.from_dict({"text": TEXTS, "label": ["yes", "no", "yes"]})}
    return lay_groundwork(
        read_rows(rows, DataArguments()), ModelArguments(str(tiny_bert)), DataArguments(max_length=4), seed=1
    )


def test_task_columns_and_labels_follow_from_the_rows(ground: Groundwork) -> None:
    assert ground.columns == Columns(("text",), "label")
    assert ground.family.labels == ("no", "yes")
    assert ground.labels == {"train": [1, 0, 1]}
    assert ground.base.heads == ("classifier",)


def test_rows_that_come_later_are_read_alike(ground: Groundwork) -> None:
    rows = Dataset.from_dict({"text": TEXTS[1:], "label": ["no", "no"], "more": [1, 2]})
    labels = ground.read_labels(rows)
    encoded = ground.encode(rows, labels)
    assert [row["labels"] for row in encoded] == labels == [0, 0]
    assert [len(row["input_ids"]) for row in encoded] == [4, 4]
    with pytest.raises(DataError, match=r"row 1 has the label maybe, which training did not see .*; it knows no, yes"):
        ground.read_labels(Dataset.from_dict({"text": TEXTS[:1], "label": ["maybe"]}))
    with pytest.raises(DataError, match="the data has no column label"):
        ground.read_labels(Dataset.from_dict({"text": TEXTS[:1]}))


def test_an_adapter_of_a_fleet_writes_the_record_of_one_alone(build: Callable[..., Arguments], tmp_path: Path) -> None:
    alone = build(text_column=["text"], label_column="label")
    fleet = FleetArguments(
        model=alone.model,
        data=alone.data,
        store=str(tmp_path / "fleet.db"),
        method=MethodArguments(n_frequency=50),
        fleet=FleetSettings(adapter_column="rating"),
    )
    assert fleet_run.prepare(fleet).record == run.prepare(alone).record


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
        ({"label": {61: "0.5"}}, r"holds numbers, as 0.5 in row 61 of .*, but yes in row 1 of .*reviews\.csv is none"),
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

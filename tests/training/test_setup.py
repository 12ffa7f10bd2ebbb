"""What a training stands on: the same task, labels and record, whoever builds on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from fourierft.errors import DataError
from fourierft.training.arguments import Arguments, DataArguments, MethodArguments, ModelArguments
from fourierft.training.columns import Columns
from fourierft.training.fleet.plan import plan_fleet
from fourierft.training.fleet.settings import FleetArguments, FleetSettings
from fourierft.training.plan import plan_training
from fourierft.training.reading import read_rows
from fourierft.training.setup import Setup, load_setup

TEXTS = ["the film is good", "a book was so bad", "the film is fine"]


@pytest.fixture
def setup(tiny_bert: Path) -> Setup:
    rows = {"train": Dataset.from_dict({"text": TEXTS, "label": ["yes", "no", "yes"]})}
    return load_setup(
        read_rows(rows, DataArguments()), ModelArguments(str(tiny_bert)), DataArguments(max_length=4), seed=1
    )


def test_task_columns_and_labels_follow_from_the_rows(setup: Setup) -> None:
    assert setup.columns == Columns(("text",), "label")
    assert setup.family.labels == ("no", "yes")
    assert setup.labels == {"train": [1, 0, 1]}
    assert setup.base.heads == ("classifier",)


def test_rows_that_come_later_are_read_alike(setup: Setup) -> None:
    rows = Dataset.from_dict({"text": TEXTS[1:], "label": ["no", "no"], "more": [1, 2]})
    labels = setup.read_labels(rows)
    encoded = setup.encode(rows, labels)
    assert [row["labels"] for row in encoded] == labels == [0, 0]
    assert [len(row["input_ids"]) for row in encoded] == [4, 4]
    with pytest.raises(DataError, match=r"row 1 has the label maybe, which training did not see .*; it knows no, yes"):
        setup.read_labels(Dataset.from_dict({"text": TEXTS[:1], "label": ["maybe"]}))
    with pytest.raises(DataError, match="the data has no column label"):
        setup.read_labels(Dataset.from_dict({"text": TEXTS[:1]}))


def test_an_adapter_of_a_fleet_writes_the_record_of_one_alone(build: Callable[..., Arguments], tmp_path: Path) -> None:
    alone = build(text_column=["text"], label_column="label")
    fleet = FleetArguments(
        model=alone.model,
        data=alone.data,
        store=str(tmp_path / "fleet.db"),
        method=MethodArguments(n_frequency=50),
        fleet=FleetSettings(adapter_column="rating"),
    )
    assert plan_fleet(fleet).record == plan_training(alone).record

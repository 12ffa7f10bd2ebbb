"""Rows of a fleet: read from a file or a folder, numbered in the order in which they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import DataError, StoreError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.fleet.data import FleetData, read_rows
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.groundwork import lay_groundwork

SETTINGS = FleetSettings(validation_fraction=0.0)


def test_a_folder_reads_like_a_file_with_a_column(data: Path, folder: Path) -> None:
    whole, parts = (read_rows(DataArguments(train_file=str(path)), SETTINGS) for path in (data, folder))
    assert sorted(map(tuple, (row.items() for row in parts.select_columns(whole.column_names)))) == sorted(
        map(tuple, (row.items() for row in whole))
    )


def test_newcomers_have_the_numbers_after_those_that_are_there(folder: Path, calm_bert: Path) -> None:
    rows = read_rows(DataArguments(train_file=str(folder)), SETTINGS)
    ground = lay_groundwork({"train": rows}, ModelArguments(str(calm_bert)), DataArguments(), seed=1)
    fleet = FleetData(ground, SETTINGS)
    fleet.add(rows, ground.labels["train"])
    (folder / "dee.csv").write_text("text,label\nthe film is good,yes\na book,no\n")
    (tenant,) = fleet.add_file(folder / "dee.csv")
    assert tenant.train == (22, 23)
    assert list(fleet.tenants) == ["ann", "bob", "cy", "dee"]
    batch = fleet.collate([22, 0, 23])
    assert batch["labels"].tolist() == [1, ground.labels["train"][0], 0]
    assert len(batch["input_ids"]) == 3
    (folder / f"{'n' * 250}.csv").write_text("text,label\na film,maybe\n")
    with pytest.raises(DataError, match="has the labels maybe, which training did not"):
        fleet.add_file(folder / f"{'n' * 250}.csv")
    (folder / "__base__.csv").write_text("text,label\na film,yes\n")
    with pytest.raises(DataError, match="names '__base__'"):
        fleet.add_file(folder / "__base__.csv")
    assert list(fleet.tenants) == ["ann", "bob", "cy", "dee"]


def test_a_name_that_no_store_takes_is_refused(data: Path, calm_bert: Path, make_rows: Any, write: Any) -> None:
    rows = read_rows(DataArguments(train_file=str(write(make_rows(**{"n" * 501: 4}), data))), SETTINGS)
    ground = lay_groundwork({"train": rows}, ModelArguments(str(calm_bert)), DataArguments(), seed=1)
    with pytest.raises(StoreError, match="a name has 1 to 500 characters"):
        FleetData(ground, SETTINGS).add(rows, ground.labels["train"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("adapter,text,label\na,a film,yes\n", "has a column adapter, but in a folder files name the adapters"),
        ("text,label\na film,3\n", "differ in their columns"),
        ("", "is empty"),
    ],
)
def test_a_folder_of_files_that_do_not_belong_together_is_refused(folder: Path, content: str, text: str) -> None:
    (folder / "dee.csv").write_text(content)
    with pytest.raises(DataError, match=text) as caught:
        read_rows(DataArguments(train_file=str(folder)), SETTINGS)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".hidden.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="has no files; put one there for each adapter, named like it"):
        read_rows(DataArguments(train_file=str(tmp_path / "none")), SETTINGS)

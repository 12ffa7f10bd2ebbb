"""Rows of a fleet: read from a file or a folder, numbered in the order in which they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from fourierft import AdapterStore
from fourierft.errors import DataError, StoreError
from fourierft.format.layout import Layout
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import column_names, place_at
from fourierft.training.fleet.data import FleetData, load_rows
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.reading import read_rows
from fourierft.training.setup import Setup, load_setup

SETTINGS = FleetSettings(validation_fraction=0.0)


def lay(rows: Dataset, base: Path) -> Setup:
    return load_setup(read_rows({"train": rows}, DataArguments()), ModelArguments(str(base)), DataArguments(), seed=1)


def test_a_folder_reads_like_a_file_with_a_column(data: Path, folder: Path) -> None:
    whole, parts = (load_rows(DataArguments(train_file=str(path)), SETTINGS) for path in (data, folder))
    columns = column_names(whole)
    assert sorted(map(tuple, (row.items() for row in parts.select_columns(columns)))) == sorted(
        map(tuple, (row.items() for row in whole.select_columns(columns)))
    )
    assert place_at(parts, 8) == f"row 1 of {folder}/bob.csv"


def test_newcomers_have_the_numbers_after_those_that_are_there(folder: Path, calm_bert: Path) -> None:
    rows = load_rows(DataArguments(train_file=str(folder)), SETTINGS)
    setup = lay(rows, calm_bert)
    fleet = FleetData(setup, SETTINGS)
    fleet.add(rows, setup.labels["train"])
    (folder / "dee.csv").write_text("text,label\nthe film is good,yes\na book,no\n")
    (tenant,) = fleet.add_file(folder / "dee.csv")
    assert tenant.train == (22, 23)
    assert list(fleet.tenants) == ["ann", "bob", "cy", "dee"]
    batch = fleet.collate([22, 0, 23])
    assert batch["labels"].tolist() == [1, setup.labels["train"][0], 0]
    assert len(batch["input_ids"]) == 3
    (folder / f"{'n' * 250}.csv").write_text("text,label\na film,maybe\n")
    with pytest.raises(DataError, match=r"row 1 of .*n\.csv has the label maybe, which training did not see"):
        fleet.add_file(folder / f"{'n' * 250}.csv")
    (folder / "__base__.csv").write_text("text,label\na film,yes\n")
    with pytest.raises(DataError, match="names '__base__'"):
        fleet.add_file(folder / "__base__.csv")
    assert list(fleet.tenants) == ["ann", "bob", "cy", "dee"]


def test_a_name_that_no_store_takes_is_refused(data: Path, calm_bert: Path, make_rows: Any, write: Any) -> None:
    rows = load_rows(DataArguments(train_file=str(write(make_rows(**{"n" * 501: 4}), data))), SETTINGS)
    setup = lay(rows, calm_bert)
    with pytest.raises(StoreError, match="use 1 to 500"):
        FleetData(setup, SETTINGS).add(rows, setup.labels["train"])


def test_a_name_that_means_another_adapter_is_refused_before_anything_trains(
    data: Path, calm_bert: Path, make_rows: Any, write: Any, folder: Path, layout: Layout, tmp_path: Path
) -> None:
    def take_in(store: AdapterStore | None, **counts: int) -> FleetData:
        rows = load_rows(DataArguments(train_file=str(write(make_rows(**counts), data))), SETTINGS)
        setup = lay(rows, calm_bert)
        fleet = FleetData(setup, SETTINGS, store)
        fleet.add(rows, setup.labels["train"])
        return fleet

    with pytest.raises(StoreError, match="the name 'ann@1' means version 1 of 'ann'; choose another"):
        take_in(None, **{"ann@1": 4, "ann": 4})
    fleet = take_in(None, **{"ann@example.com": 4, "ann": 4, "bob@2": 4})
    assert set(fleet.tenants) == {"ann@example.com", "ann", "bob@2"}
    (folder / "ann@3.csv").write_text("text,label\na film,yes\n")
    with pytest.raises(StoreError, match="'ann@3' means version 3 of 'ann'"):
        fleet.add_file(folder / "ann@3.csv")
    with AdapterStore(tmp_path / "fleet.db") as store:
        take_in(store, **{"ann@live": 4})
        for name in ("ann", "bob@2"):
            store.put(name, layout, torch.ones(sum(layout.sizes)))
        store.set_alias("ann", "live", 1)
        for name in ("ann@live", "ann@1"):
            with pytest.raises(StoreError, match=f"has '{name}' already, as a version of 'ann'; choose another name"):
                take_in(store, **{name: 4})
        assert set(take_in(store, **{"bob": 4, "bob@2": 4, "ann": 4}).tenants) == {"bob", "bob@2", "ann"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("adapter,text,label\na,a film,yes\n", "has a column adapter, but in a folder the file names are the adapters"),
        ("", "is empty"),
    ],
)
def test_a_folder_of_files_that_do_not_belong_together_is_refused(folder: Path, content: str, text: str) -> None:
    (folder / "dee.csv").write_text(content)
    with pytest.raises(DataError, match=text) as caught:
        load_rows(DataArguments(train_file=str(folder)), SETTINGS)
    assert "\n" not in str(caught.value)


def test_files_of_other_columns_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "dee.csv").write_text("text,stars\na film,3\n")
    rows = load_rows(DataArguments(train_file=str(folder)), SETTINGS)
    with pytest.raises(DataError, match=r"column label is empty in 1 of 23 rows, first in row 1 of .*dee\.csv"):
        read_rows({"train": rows}, DataArguments())
    (folder / "dee.csv").unlink()
    Dataset.from_dict({"text": ["a film"], "label": [3]}).to_parquet(folder / "dee.parquet")
    with pytest.raises(DataError, match="differ in their columns"):
        load_rows(DataArguments(train_file=str(folder)), SETTINGS)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".hidden.csv").write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="has no files; put one there for each adapter, named like it"):
        load_rows(DataArguments(train_file=str(tmp_path / "none")), SETTINGS)

"""Reading rows: formats, splits, columns, and data that can't be trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.data import (
    divide_count,
    hides_labels,
    label_values,
    load_splits,
    load_test,
    read_file,
)

ROWS = [{"text": f"good film {i}", "label": i % 2} for i in range(20)]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> str:
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "settings",
    [{}, {"validation_fraction": 0.0}, {"validation_fraction": 0.26}, {"max_train_samples": 5, "max_eval_samples": 1}],
)
@pytest.mark.parametrize("splits", [("train",), ("train", "validation"), ("train", "test")])
def test_counts_are_divided_as_the_rows_are(tmp_path: Path, settings: dict[str, Any], splits: tuple[str, ...]) -> None:
    for split in splits:
        write(tmp_path / f"{split}.parquet")
    data = DataArguments(dataset_name=str(tmp_path), **settings)
    expected = {name: len(rows) for name, rows in load_splits(data, seed=0).items()}
    assert divide_count(dict.fromkeys(splits, len(ROWS)), data) == expected


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    assert read_file(write(tmp_path / f"rows.{suffix}")).to_list() == ROWS


def test_named_files_are_the_splits(tmp_path: Path) -> None:
    files = {f"{name}_file": write(tmp_path / f"{name}.csv", ROWS[:n]) for name, n in
             (("train", 9), ("validation", 5), ("test", 3))}  # fmt: skip
    splits = load_splits(DataArguments(**files), seed=1)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 9, "validation": 5, "test": 3}


def test_validation_rows_are_drawn_by_the_seed_and_leave_the_training_rows(tmp_path: Path) -> None:
    data = DataArguments(train_file=write(tmp_path / "rows.csv"), validation_fraction=0.25)
    first, again, other = (load_splits(data, seed) for seed in (1, 1, 2))
    assert len(first["validation"]) == 5
    assert first["validation"]["text"][:] == again["validation"]["text"][:]
    assert first["validation"]["text"][:] != other["validation"]["text"][:]
    together = first["train"]["text"][:] + first["validation"]["text"][:]
    assert sorted(together) == sorted(row["text"] for row in ROWS)


def test_samples_are_drawn_from_all_rows(tmp_path: Path) -> None:
    data = DataArguments(train_file=write(tmp_path / "rows.csv"), validation_fraction=0, max_train_samples=8)
    (rows,) = load_splits(data, seed=3).values()
    assert len(set(rows["text"])) == 8
    assert rows["text"][:] != [row["text"] for row in ROWS[:8]]


def test_local_data_set_gives_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, count in (("train", 10), ("validation", 4), ("test", 2)):
        write(folder / f"{name}.csv", ROWS[:count])
    splits = load_splits(DataArguments(dataset_name=str(folder)), seed=1)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 10, "validation": 4, "test": 2}
    assert len(load_test(DataArguments(dataset_name=str(folder)), seed=1)) == 2
    with pytest.raises(DataError, match=r"no split extra, only .*; name one with --test_split_name"):
        load_test(DataArguments(dataset_name=str(folder), test_split_name="extra"), seed=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", None, "does not exist"),
        ("rows.csv", "", "is empty; give one with at least one row"),
        ("rows.csv", "text,label\n", "has no rows; give at least one"),
        ("rows.docx", "text", r"unknown format .docx; use one of .csv, .tsv, .json, .jsonl, .parquet"),
        ("rows.jsonl", '{"text": ', "can't be read"),
        ("rows.parquet", "text", "can't be read"),
    ],
)
def test_unusable_file_is_refused_in_one_line(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_data_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="data set nobody/nothing can't be read"):
        load_splits(DataArguments(dataset_name="nobody/nothing"), seed=1)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="give --train_file FILE or --dataset_name DATASET"):
        load_splits(DataArguments(), seed=1)


def test_class_numbers_of_a_data_set_become_names() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert label_values(rows, "label") == ["good", "bad"]
    unlabelled = Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(DataError, match="column label is -1 in 1 of 1 rows, which is how a benchmark hides its labels"):
        label_values(unlabelled, "label")


@pytest.mark.parametrize(("labels", "hidden"), [([-1, -1], True), ([-1, 0], False), ([0, 1], False)])
def test_labels_are_hidden_if_all_of_them_are(labels: list[int], hidden: bool) -> None:
    rows = Dataset.from_dict({"label": labels}, features=Features({"label": ClassLabel(names=["bad", "good"])}))
    assert hides_labels(rows, "label") is hidden
    assert not hides_labels(Dataset.from_dict({"label": [-1]}), "label")  # a number of the user's own
    assert not hides_labels(rows, "mood")

"""Reading rows: formats, splits, columns, and data that can't be trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoTokenizer

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.data import (
    Columns,
    check_rows,
    find_columns,
    label_values,
    load_splits,
    load_test,
    read_file,
    tokenize,
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


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["label", "text"], Columns(("text",), "label")),
        (["idx", "premise", "hypothesis", "labels"], Columns(("premise", "hypothesis"), "labels")),
        (["sentence", "label"], Columns(("sentence",), "label")),
    ],
)
def test_usual_column_names_are_found(names: list[str], columns: Columns) -> None:
    assert find_columns(Dataset.from_dict({name: ["a"] for name in names}), None, None) == columns


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (["body"], None, "no column body; the data has the columns review, stars"),
        (["review"], "mood", "no column mood; the data has the columns review, stars"),
        (None, "stars", "no column looks like the text among review, stars; name it with --text_column"),
        (["review"], None, "no column looks like the label among review, stars; name it with --label_column"),
        (["review", "review", "stars"], "stars", "names 3 columns"),
    ],
)
def test_missing_column_names_the_columns_found(text: list[str] | None, label: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_columns(Dataset.from_dict({"review": ["a"], "stars": [1]}), text, label)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"text": ["a", None, "c"], "label": [1, 0, 1]},
            "column text of the train data is empty in 1 rows, first in row 2",
        ),
        ({"text": ["a", "b"], "label": [float("nan"), 1.0]}, "column label of the train data is empty in 1 rows"),
        ({"text": [1, 2], "label": [0, 1]}, "column text of the train data holds 1, not text"),
        ({"text": ["a"]}, "the train data has no column label, only text"),
        ({"text": [], "label": []}, "the train data has no rows"),
    ],
)
def test_rows_that_lack_something_are_refused(rows: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_rows(Dataset.from_dict(rows), Columns(("text",), "label"), "train")


def test_class_numbers_of_a_data_set_become_names() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert label_values(rows, "label") == ["good", "bad"]
    unlabelled = Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(DataError, match="without a label"):
        label_values(unlabelled, "label")


def test_tokens_are_those_of_the_tokenizer_cut_to_length(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = Dataset.from_dict({"a": ["the film is good", "bad"], "b": ["a book", "dull"], "y": ["p", "n"]})
    tokens = tokenize(rows, Columns(("a", "b"), "y"), [1, 0], tokenizer, max_length=6)
    expected = tokenizer(["the film is good", "bad"], ["a book", "dull"], truncation=True, max_length=6)
    assert tokens["input_ids"][:] == expected["input_ids"]
    assert len(tokens["input_ids"][0]) == 6
    assert tokens["labels"][:] == [1, 0]
    assert not {"a", "b", "y"} & set(tokens.column_names)

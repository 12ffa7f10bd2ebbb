"""The splits of files, of folders, and of data sets that say what their columns are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import column_names, place_at
from fourierft.training.columns import declared_labels, label_values
from fourierft.training.data import load_splits, load_test
from fourierft.training.division import divide_count
from fourierft.training.reading import divide, read_rows

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
    reading = divide(read_rows(load_splits(data), data), data, seed=0)
    expected = {name: len(rows) for name, rows in reading.rows.items()}
    assert divide_count(dict.fromkeys(splits, len(ROWS)), data) == expected


def test_named_files_are_the_splits(tmp_path: Path) -> None:
    files: dict[str, Any] = {f"{name}_file": write(tmp_path / f"{name}.csv", ROWS[:n]) for name, n in
             (("train", 9), ("validation", 5), ("test", 3))}  # fmt: skip
    splits = load_splits(DataArguments(**files))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 9, "validation": 5, "test": 3}


def test_local_data_set_gives_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, count in (("train", 10), ("validation", 4), ("test", 2)):
        write(folder / f"{name}.csv", ROWS[:count])
    splits = load_splits(DataArguments(dataset_name=str(folder)))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 10, "validation": 4, "test": 2}
    assert len(load_test(DataArguments(dataset_name=str(folder)))) == 2
    with pytest.raises(DataError, match=r"no split extra, only .*; name one with --test_split_name"):
        load_test(DataArguments(dataset_name=str(folder), test_split_name="extra"))


def test_data_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="data set nobody/nothing can't be read"):
        load_splits(DataArguments(dataset_name="nobody/nothing"))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="give --train_file FILE or --dataset_name DATASET"):
        load_splits(DataArguments())


def test_files_of_a_folder_are_read_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_text("text,label\nNA,001\nnull,01\n")
    (tmp_path / "set" / "validation.csv").write_text("text,label\nfine,10\n")
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "set")))
    assert splits["train"]["text"][:] == ["NA", "null"]
    assert splits["train"]["label"][:] == ["001", "01"]
    assert place_at(splits["validation"], 0) == f"row 1 of {tmp_path}/set/validation.csv"
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "train-1.jsonl").write_text('{"text": "a", "label": "2020-01-31"}\n')
    (tmp_path / "lines" / "train-2.jsonl").write_text('{"text": "b", "label": 7}\n')
    rows = load_splits(DataArguments(dataset_name=str(tmp_path / "lines")))["train"]
    assert rows["label"][:] == ["2020-01-31", "7"]
    assert place_at(rows, 1) == f"row 1 of {tmp_path}/lines/train-2.jsonl"


def test_a_data_set_that_names_its_classes_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': bad\n          '1': good\n---\n"
    )
    (tmp_path / "train.csv").write_text("text,label\nNA,1\nnull,0\n")
    rows = load_splits(DataArguments(dataset_name=str(tmp_path)))["train"]
    assert rows["text"][:] == ["NA", "null"]
    assert (declared_labels(rows, "label"), label_values(rows, "label")) == (["bad", "good"], ["good", "bad"])
    assert place_at(rows, 1) == f"row 2 of the train split of {tmp_path}"


def test_a_saved_data_set_keeps_its_splits_and_classes(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    DatasetDict(train=rows, validation=rows).save_to_disk(tmp_path / "saved")
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "saved")))
    assert list(splits) == ["train", "validation"]
    assert label_values(splits["train"], "label") == ["good", "bad"]
    assert column_names(splits["train"]) == ["text", "label"]


def test_a_saved_data_set_without_splits_is_trained_on(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", "b"], "label": ["001", "01"]}).save_to_disk(tmp_path / "saved")
    splits = load_splits(DataArguments(dataset_name=str(tmp_path / "saved")))
    assert splits.keys() == {"train"}
    assert splits["train"]["label"][:] == ["001", "01"]
    assert place_at(splits["train"], 1) == f"row 2 of the train split of {tmp_path / 'saved'}"


def test_a_split_without_rows_is_refused(tmp_path: Path) -> None:
    rows, none = Dataset.from_dict({"text": ["a"], "label": ["x"]}), Dataset.from_dict({"text": [], "label": []})
    (tmp_path / "set").mkdir()
    rows.to_parquet(tmp_path / "set" / "train.parquet")
    none.to_parquet(tmp_path / "set" / "validation.parquet")
    with pytest.raises(DataError, match="has no rows; give at least one"):
        load_splits(DataArguments(dataset_name=str(tmp_path / "set")))
    DatasetDict(train=rows, validation=none).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"data set .*saved can't be read|validation split of .* has no rows"):
        load_splits(DataArguments(dataset_name=str(tmp_path / "saved")))

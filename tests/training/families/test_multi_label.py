"""Several labels a row: read, encoded, scored and shown, compared with counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import AutoModelForSequenceClassification, EvalPrediction

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.columns import Columns
from fourierft.training.data import load_splits
from fourierft.training.families.multi_label import MultiLabel
from fourierft.training.labels import by_index
from fourierft.training.reading import read_rows

ABC = MultiLabel(("a", "b", "c"))
COLUMNS = Columns(("text",), "labels")


def make_rows(*labels: Any) -> Dataset:
    return Dataset.from_dict({"text": ["a film"] * len(labels), "labels": list(labels)})


def test_labels_are_ones_in_the_order_of_their_names() -> None:
    assert ABC.encode_labels([["c", "a"], [], ["b", "b"], '["b", "c"]', "a"]) == [
        [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]
    ]  # fmt: skip
    assert [ABC.shown(row) for row in ABC.encode_labels([["c", "a"], []])] == [["a", "c"], []]
    message = r"row 2 has the label d, which training did not see \(1 of 3 labels are such: d\); it knows a, b, c"
    with pytest.raises(DataError, match=message):
        ABC.encode_labels([["a"], ["b", "d"]])


def test_names_are_those_of_all_rows_or_of_the_data_set() -> None:
    assert MultiLabel().learn([["10", "9"], [], ["x"]], "labels", (), str, True) == MultiLabel(("9", "10", "x"))
    assert MultiLabel().learn([["b"]], "labels", ("b", "a"), str, True) == MultiLabel(("b", "a"))
    with pytest.raises(DataError, match="column labels has only empty lists"):
        MultiLabel().learn([[], []], "labels", (), str, True)


def test_a_yes_or_no_for_each_label_is_not_taken_for_names() -> None:
    for rows in ([[1, 0, 1], [0, 0, 0]], [[True, False], [True, True]], [[1, 0], [0, 1]]):
        with pytest.raises(
            DataError, match=r"has \[.*\] in row 1, and similar values in all rows, .* a yes or no for each label"
        ):
            MultiLabel().learn(rows, "labels", (), by_index, True)
    assert MultiLabel().learn([[1, 0], [1]], "labels", (), by_index, True) == MultiLabel(("0", "1"))


def test_one_label_is_scored_by_the_rows_that_have_it() -> None:
    one = MultiLabel(("day",))
    logits, labels = np.array([[2.0], [1.0], [-1.0], [-2.0], [3.0]]), np.array([[1.0], [0.0], [1.0], [0.0], [1.0]])
    # two of three that were found are right, two of three that are there were found
    assert one.score(EvalPrediction(logits, labels)) == pytest.approx(
        {"f1_micro": 2 / 3, "f1_macro": 2 / 3, "subset_accuracy": 3 / 5}
    )


def test_numbers_of_a_data_set_that_names_its_labels_are_their_names() -> None:
    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=["joy", "anger", "fear"]))})
    rows = Dataset.from_dict({"text": ["a", "b"], "labels": [[2, 0], []]}, features=features)
    data = DataArguments(task="multi_label_classification")
    reading = read_rows({"train": rows}, data)
    assert reading.family == MultiLabel(("joy", "anger", "fear"))
    assert reading.labels == {"train": [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]}
    assert MultiLabel().expect(features["labels"], True) == MultiLabel(("joy", "anger", "fear"))
    hidden = Dataset.from_dict({"text": ["a"], "labels": [[-1]]}, features=features)
    with pytest.raises(
        DataError, match=r"column labels is \[-1\] in 1 of 1 rows, .* benchmarks hide their labels like this"
    ):
        read_rows({"train": hidden}, data)


def test_lists_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,labels\na film,"[""x"", ""y""]"\na book,x\nso,[]\n')
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a film", "labels": ["x", "y"]}\n{"text": "a book", "labels": "x"}\n{"text": "so", "labels": []}\n'
    )
    make_rows(["x", "y"], ["x"], []).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        data = DataArguments(train_file=str(tmp_path / name), task="multi_label_classification")
        reading = read_rows(load_splits(data), data)
        assert (reading.family.labels, reading.labels["train"]) == (("x", "y"), [[1, 1], [1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            "a, b",
            r"holds 'a, b' in row 2, which may be one label or several, set apart by ,; write a list of labels, as",
        ),
        ("a;b", "which may be one label or several, set apart by ;"),
        ("['a', 'b']", "a list that is not written as JSON; write"),
        ('["a", ["b"]]', "a list of something else than names"),
        ('["a", ""]', "a list of something else than names"),
        (None, "column labels is empty in 1 of 2 rows, first in row 2; fill or remove them"),
    ],
)
def test_what_is_no_list_of_labels_is_told_with_its_row(label: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ABC.check_rows(make_rows("a", label), COLUMNS)
    ABC.check_rows(make_rows("a", '["a, b"]'), COLUMNS)


def test_metrics_are_those_counted_by_hand() -> None:
    expected = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=np.float32)
    logits = np.array([[3, -1, -2], [-1, 0, -1], [2, 1, 4], [-5, -5, -5]], dtype=np.float32)
    # predicted 100, 010 (0 is a half), 111, 000: a has TP 2; b TP 2; c FN 1 (row 1), FP 1 (row 3)
    scores = ABC.score(EvalPrediction(logits, expected))
    assert scores == pytest.approx({"f1_micro": 8 / 10, "f1_macro": 2 / 3, "subset_accuracy": 2 / 4})
    assert tuple(scores) == ABC.metrics


def test_predictions_are_names_with_the_probability_of_each() -> None:
    (row,) = ABC.decode(np.array([[0.0, np.log(3.0), -np.log(3.0)]]))
    assert row["prediction"] == ["a", "b"]
    assert row["probabilities"] == pytest.approx({"a": 0.5, "b": 0.75, "c": 0.25})
    (none,) = ABC.decode(np.full((1, 3), -1.0))
    assert none["prediction"] == []


def test_losses_of_rows_are_those_of_transformers(tiny_bert: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **ABC.model_settings()).eval()
    labels = torch.tensor(ABC.encode_labels([["a"], ["b", "c"], [], ["a", "b"]]))
    with torch.no_grad():
        out = model(input_ids=torch.randint(4, 20, (4, 6)), labels=labels)
    losses, counts = ABC.row_losses(out.logits, labels), ABC.row_counts(labels)
    torch.testing.assert_close(losses.sum() / counts.sum(), out.loss)

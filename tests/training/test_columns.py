"""Columns: what is asked for is there, and labels are the names that the data set has for them."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from fourierft.errors import DataError
from fourierft.training.cells import mark_places
from fourierft.training.columns import check_filled, check_labels, hides_labels, label_values


def test_class_numbers_of_a_data_set_become_names() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert label_values(rows, "label") == ["good", "bad"]
    unlabelled = Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(
        DataError, match="column label is -1 in 1 of 1 rows, first in row 1; benchmarks hide their labels like this"
    ):
        label_values(unlabelled, "label")


@pytest.mark.parametrize(("labels", "hidden"), [([-1, -1], True), ([-1, 0], False), ([0, 1], False)])
def test_labels_are_hidden_if_all_of_them_are(labels: list[int], hidden: bool) -> None:
    rows = Dataset.from_dict({"label": labels}, features=Features({"label": ClassLabel(names=["bad", "good"])}))
    assert hides_labels(rows, "label") is hidden
    assert not hides_labels(Dataset.from_dict({"label": [-1]}), "label")  # a number of the user's own
    assert not hides_labels(rows, "mood")


@pytest.mark.parametrize(
    "label", ["['a', 'b']", '["a"]', "['a' 'b']", "[1, 2]", "[0. 1. 1.]", "[]", ["a"], {"text": "a"}, b"a"]
)
def test_lists_of_labels_are_refused_with_their_row(label: Any) -> None:
    rows = mark_places(Dataset.from_dict({"label": [label] * 2}), "a.csv")
    with pytest.raises(
        DataError, match=r"in row 1 of a\.csv, .*--task multi_label_classification.* give one label a row"
    ):
        check_labels(rows, "label")


def test_names_in_brackets_are_labels() -> None:
    check_labels(Dataset.from_dict({"label": ["[pos]", "[UNK]", "a, b", "(1)"]}), "label")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["a", "", " ", "b"], "column text is empty in 2 of 4 rows, first in row 2 of a.csv; fill or remove them"),
        (["a", None], "column text is empty in 1 of 2 rows, first in row 2 of a.csv"),
        ([0.5, float("nan")], "column text is empty in 1 of 2 rows, first in row 2 of a.csv"),
    ],
)
def test_empty_cells_are_told_with_the_first_row(cells: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_filled(mark_places(Dataset.from_dict({"text": cells}), "a.csv"), ["text"])

"""Several labels a row: a text has any number of names, each of which the model says yes or no to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import as_text, place_at, read_column
from fourierft.training.cells import shorten as begin
from fourierft.training.columns import Columns, check_columns, check_filled, check_texts, named_classes
from fourierft.training.families.family import Family
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.texts import TextRows
from fourierft.training.labels import (
    Where,
    by_index,
    by_number,
    class_name,
    named_outputs,
    number_labels,
    read_list,
)

if TYPE_CHECKING:
    from datasets import Dataset

SEPARATORS = (",", ";", "|")  # that may stand between labels in a text, which are not read as such
TWO = "the number of labels, taken to be two, as the data are not here and do not name them"


class MultiLabel(TextRows):
    """Labels of a text: a list of names, which may be empty; one is predicted if its probability is at least a half.

    `f1_micro` counts every yes of every label alike, `f1_macro` is the mean of the labels' F1, and `subset_accuracy`
    the share of rows of which all labels are right.
    """

    name = "multi_label_classification"
    metrics = ("f1_micro", "f1_macro", "subset_accuracy")

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        return data.task == self.name and not data.image_column

    def learn(
        self, values: Sequence[Any], column: str, declared: Sequence[str], where: Where, is_named: bool
    ) -> Family | None:
        """The labels that the data set names, or else those found, sorted.

        Raises: DataError, if there are none, or a row has a yes or no for each label.
        """
        if not declared and _are_answers(values):
            raise DataError(
                f"column {column} has {begin(values[0])} in {where(0)}, and similar values "
                "in all rows, which looks like a yes or no for each label; write the names "
                'of the row\'s labels, as ["a", "b"]'
            )
        found = {name for value in values for name in read_names(value)}
        if not found:
            raise DataError(f"column {column} has only empty lists; at least one row needs a label")
        return replace(self, labels=tuple(declared or sorted(found, key=by_number)))

    def expect(self, feature: Any, is_named: bool) -> Family | None:
        """The labels that the data set names, or else two."""
        names = named_classes(feature)
        return replace(self, labels=tuple(names)) if names else self.guess()

    def guess(self) -> Family:
        return replace(self, labels=("?", "??"), assumption=TWO)

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a column or a text, or a cell of labels is no list of them."""
        check_columns(rows, columns)
        check_texts(rows, columns.inputs, "text_column")
        check_filled(rows, [*columns.inputs, columns.label])
        for index, value in enumerate(read_column(rows, columns.label)):
            fault = find_fault(value)
            if fault:
                raise DataError(
                    f"column {columns.label} holds {begin(value)} in {place_at(rows, index)}, {fault}; write a list of "
                    'labels, as ["a", "b"], or [] for none'
                )

    def model_settings(self) -> dict[str, Any]:
        return {**named_outputs(self.labels), "problem_type": "multi_label_classification"}

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[list[float]]:
        """1 for each label that a row has, 0 for the others; DataError, if one was not in the training data."""
        named = [(row, name) for row, value in enumerate(values) for name in read_names(value)]
        numbers = number_labels([name for _, name in named], self.labels, lambda place: where(named[place][0]), False)
        encoded = np.zeros((len(values), len(self.labels)))
        for (row, _), number in zip(named, numbers, strict=True):
            encoded[row, number] = 1.0
        return encoded.tolist()

    def shown(self, label: Sequence[float]) -> list[str]:
        """The names of the labels that a row has."""
        return [name for name, is_there in zip(self.labels, label, strict=True) if is_there]

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(rows, len(self.labels), dtype=torch.float32)

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy of logits [rows, labels], the mean over labels."""
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return losses.mean(dim=1)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """F1 and the share of rows that are right, of logits [rows, labels]."""
        with needs("train", "scoring predictions"):
            from sklearn.metrics import f1_score

        expected = np.asarray(prediction.label_ids) > 0
        predicted = outputs_of(prediction) >= 0  # where the probability is at least a half
        each = [f1_score(*columns, zero_division=0) for columns in zip(expected.T, predicted.T, strict=True)]
        return {
            "f1_micro": float(f1_score(expected.ravel(), predicted.ravel(), zero_division=0)),
            "f1_macro": float(np.mean(each)),
            "subset_accuracy": float((expected == predicted).all(axis=1).mean()),
        }

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """The labels predicted for every row of logits [rows, labels], and the probability of each label."""
        probabilities = torch.from_numpy(outputs.astype(np.float64)).sigmoid().tolist()
        return [
            {
                "prediction": self.shown([logit >= 0 for logit in row]),
                "probabilities": dict(zip(self.labels, own, strict=True)),
            }
            for row, own in zip(outputs, probabilities, strict=True)
        ]


FAMILIES = (MultiLabel(),)


def read_names(value: Any) -> list[str]:
    """The labels of a cell: those of a list, or the one that it is."""
    found = read_list(value)
    return [class_name(name) for name in ([value] if found is None else found)]


def _are_answers(values: Sequence[Any]) -> bool:
    """Whether all cells are lists of as many zeros and ones. As names they would repeat, or all rows have both."""
    lists = [read_list(value) or [] for value in values]
    is_long = len({len(one) for one in lists}) == 1 and len(lists[0]) > 1
    return is_long and {class_name(name) for one in lists for name in one} <= {"0", "1", "True", "False"}


def find_fault(value: Any) -> str | None:
    """Why a cell holds no labels; None if it does."""
    found = read_list(value)
    if found is not None:
        is_right = all(as_text(name) is not None and str(name).strip() for name in found)
        return None if is_right else "a list of something else than names"
    if as_text(value) is None:
        return "no list of labels"
    text = class_name(value)
    if text.startswith("["):
        return "a list that is not written as JSON"
    mark = next((mark for mark in SEPARATORS if mark in text), None)
    return f"which may be one label or several, set apart by {mark}" if mark else None

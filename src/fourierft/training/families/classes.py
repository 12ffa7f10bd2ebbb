"""Classes: a row has one of several names. The labels of texts and of images; texts that have them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.training.columns import named_classes
from fourierft.training.families.family import Family
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.texts import TextRows
from fourierft.training.labels import Where, by_index, by_number, class_name, named_outputs, number_labels, shorten

FEW_CLASSES = 20
TWO = "the number of classes, taken to be two, as the data are not here and do not name them"


class ClassLabels(Family):
    """One class of several; `labels` are their names, in the order of the model's outputs.

    Of two classes the second is the positive one, whose F1 is `f1`; `f1_macro` is the mean of all classes' F1.
    """

    name = "classification"

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("accuracy", *(["f1"] if len(self.labels) == 2 else []), "f1_macro", "matthews")

    def learn(
        self, values: Sequence[Any], column: str, declared: Sequence[str], where: Where, is_named: bool
    ) -> Family | None:
        """The classes that the data set names, or else those found, sorted.

        Raises: DataError, if there is but one, or, unless the user asked for classes, there are too many.
        """
        names = {class_name(value) for value in values}
        if len(names) < 2:
            raise DataError(
                f"column {column} has only the label {shorten(sorted(names))}; classification needs at least two"
            )
        if declared:
            return replace(self, labels=tuple(declared))
        if not is_named and len(names) > max(FEW_CLASSES, len(values) // 2):
            raise DataError(
                f"column {column} has {len(names)} different labels in {len(values)} rows, too many for classes; "
                "name another --label_column, or give --task classification or --task regression"
            )
        return replace(self, labels=tuple(sorted(names, key=by_number)))

    def expect(self, feature: Any, is_named: bool) -> Family | None:
        """The classes that the data set names, or else two."""
        names = named_classes(feature)
        return replace(self, labels=tuple(names)) if names else self.guess()

    def guess(self) -> Family:
        return replace(self, labels=("?", "??"), assumption=TWO)

    def strata(self, labels: Sequence[Any]) -> Sequence[int] | None:
        return labels

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(rows, dtype=torch.long)

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits [rows, labels]."""
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    def model_settings(self) -> dict[str, Any]:
        return {**named_outputs(self.labels), "problem_type": "single_label_classification"}

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[int]:
        """Class numbers of labels; DataError, if one was not in the training data."""
        return number_labels([class_name(value) for value in values], self.labels, where)

    def shown(self, label: int) -> str:
        return self.labels[label]

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy, F1 and Matthews correlation of logits [rows, labels]."""
        with needs("train", "scoring predictions"):
            from sklearn import metrics

        expected = np.asarray(prediction.label_ids)
        predicted = outputs_of(prediction).argmax(axis=-1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A single label was found", category=UserWarning)
            scores = {
                "accuracy": metrics.accuracy_score(expected, predicted),
                "f1_macro": metrics.f1_score(expected, predicted, average="macro", zero_division=0),
                "matthews": metrics.matthews_corrcoef(expected, predicted),
            }
        if len(self.labels) == 2:
            scores["f1"] = metrics.f1_score(expected, predicted, pos_label=1, zero_division=0)
        return {name: float(scores[name]) for name in self.metrics}

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """The class of every row of logits [rows, labels], with its probability."""
        shifted = outputs.astype(np.float64) - outputs.max(axis=-1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)
        best = probabilities.argmax(axis=-1)
        return [
            {"prediction": self.labels[index], "probability": float(row[index])}
            for index, row in zip(best, probabilities, strict=True)
        ]


class Classification(ClassLabels, TextRows):
    """A class of a text."""


FAMILIES = (Classification(),)

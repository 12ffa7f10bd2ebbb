"""Numbers: a row has a number, learned with the mean squared error. Of texts and of images; texts that have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.training.families.family import Family
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.texts import TextRows
from fourierft.training.labels import Where, by_index, class_name, plain_number, read_number


class NumberLabels(Family):
    """A number."""

    name = "regression"
    metrics = ("pearson", "spearman", "rmse")
    lower_is_better = ("rmse",)

    def learn(
        self, values: Sequence[Any], column: str, declared: Sequence[str], where: Where, is_named: bool
    ) -> Family | None:
        """The family if the labels are numbers, fractions among them; whatever they are, if it was named.

        Raises: DataError, if only some are numbers, or they have a decimal comma.
        """
        if is_named:
            return self
        return self if not declared and _are_fractions([class_name(value) for value in values], column, where) else None

    def expect(self, feature: Any, is_named: bool) -> Family | None:
        """The family if the column holds floats, or it was named."""
        return self if is_named or str(getattr(feature, "dtype", "")).startswith("float") else None

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(rows, dtype=torch.float32)

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Squared error of logits [rows, 1]."""
        return (logits.squeeze(-1) - labels.float()) ** 2

    def model_settings(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[float]:
        """Labels as floats; DataError, if one is not a finite number."""
        numbers = []
        for index, value in enumerate(values):
            number = read_number(class_name(value))
            if number is None:
                name = class_name(value)
                hint = f"; write {plain_number(name)}" if plain_number(name) else "; regression needs one"
                raise DataError(f"label {name!r} in {where(index)} is not a number{hint}")
            numbers.append(number)
        return numbers

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Pearson and Spearman correlation (0 if one side is constant) and root mean squared error of [rows, 1].

        All are NaN if a prediction is not finite.
        """
        with needs("train", "scoring numbers"):
            from scipy.stats import pearsonr, spearmanr
            from sklearn import metrics

        expected = np.asarray(prediction.label_ids, dtype=np.float64).reshape(-1)
        predicted = outputs_of(prediction).astype(np.float64).reshape(-1)
        if not np.isfinite(predicted).all():
            return dict.fromkeys(("pearson", "spearman", "rmse"), math.nan)
        varied = len(expected) > 1 and np.ptp(expected) > 0 and np.ptp(predicted) > 0
        return {
            "pearson": float(pearsonr(predicted, expected).statistic) if varied else 0.0,
            "spearman": float(spearmanr(predicted, expected).statistic) if varied else 0.0,
            "rmse": float(metrics.root_mean_squared_error(expected, predicted)),
        }

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """The number predicted for every row of outputs [rows, 1]."""
        return [{"prediction": float(value)} for value in outputs.reshape(-1)]


class Regression(NumberLabels, TextRows):
    """A number for a text."""


FAMILIES = (Regression(),)


def _are_fractions(labels: Sequence[str], column: str, where: Where) -> bool:
    """Whether labels are numbers, fractions among them.

    Raises: DataError, if only some of them are, or they have a decimal comma.
    """
    numbers = [read_number(label) for label in labels]
    fraction = next((k for k, number in enumerate(numbers) if number is not None and not number.is_integer()), None)
    word = next((k for k, number in enumerate(numbers) if number is None), None)
    if fraction is not None and word is not None:
        raise DataError(
            f"column {column} has numbers, such as {labels[fraction]} in {where(fraction)}, "
            f"but {labels[word]} in {where(word)} is not a number; correct or remove "
            "such rows, or give --task classification if all are names"
        )
    if word is not None and all(plain_number(label) or read_number(label) is not None for label in labels):
        raise DataError(
            f"column {column} holds {labels[word]} in {where(word)}, which looks like a number with a decimal comma or "
            f"groups of digits; write {plain_number(labels[word])}, or give --task classification if it is a name"
        )
    return fraction is not None

"""What is learned: one of several classes, a number, or an answer in words. Labels in, metrics out."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from fourierft.errors import ConfigError, DataError
from fourierft.extras import needs
from fourierft.training.cells import as_text, is_blank
from fourierft.training.labels import Where, by_index, class_name, plain_number, read_number

IGNORED = -100  # label of a token that is not to be learned
LOWER_IS_BETTER = ("loss", "rmse", "answer_loss")


@dataclass(frozen=True)
class Classification:
    """One class of several; `labels` are their names, in the order of the model's outputs.

    Of two classes the second is the positive one, whose F1 is `f1`; `f1_macro` is the mean of all classes' F1.
    """

    labels: tuple[str, ...]
    main_metric: str = "accuracy"
    name = "classification"
    needs_head = True
    counts_tokens = False
    reduce = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what `score` returns."""
        return ("accuracy", *(["f1"] if len(self.labels) == 2 else []), "f1_macro", "matthews")

    def model_settings(self) -> dict[str, Any]:
        """What the model's config must say."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def encode(self, values: Sequence[Any], where: Where = by_index) -> list[int]:
        """Class numbers of labels; DataError, if one was not in the training data.

        A whole number is the class of its name with or without `.0`, which some programs write and others do not,
        unless both are classes.
        """
        numbers = {label: index for index, label in enumerate(self.labels)}
        for label, index in tuple(numbers.items()):
            if re.fullmatch(r"-?\d+(\.0)?", label):
                numbers.setdefault(label.removesuffix(".0") if label.endswith(".0") else f"{label}.0", index)
        names = [class_name(value) for value in values]
        unknown = [index for index, name in enumerate(names) if name not in numbers]
        if unknown:
            others = shorten(sorted({names[index] for index in unknown}))
            raise DataError(
                f"{where(unknown[0])} has the label {names[unknown[0]]}, which training did not see ({len(unknown)} of "
                f"{len(names)} rows have such labels: {others}); it knows {shorten(self.labels)}"
            )
        return [numbers[name] for name in names]

    def shown(self, label: int) -> str:
        """A label as people read it."""
        return self.labels[label]

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy, F1 and Matthews correlation of logits [rows, labels]."""
        metrics = _import_metrics()
        expected = np.asarray(prediction.label_ids)
        predicted = _outputs(prediction).argmax(axis=-1)
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


@dataclass(frozen=True)
class Regression:
    """A number, learned with the mean squared error."""

    labels: tuple[str, ...] = ()
    main_metric: str = "pearson"
    name = "regression"
    metrics = ("pearson", "spearman", "rmse")
    needs_head = True
    counts_tokens = False
    reduce = None

    def model_settings(self) -> dict[str, Any]:
        """What the model's config must say."""
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, values: Sequence[Any], where: Where = by_index) -> list[float]:
        """Labels as floats; DataError, if one is not a finite number."""
        numbers = []
        for index, value in enumerate(values):
            number = read_number(class_name(value))
            if number is None:
                name = class_name(value)
                hint = f"; write {plain_number(name)}" if plain_number(name) else "; regression needs one"
                raise DataError(f"label {name!r} in {where(index)} is no number{hint}")
            numbers.append(number)
        return numbers

    def shown(self, label: float) -> float:
        """A label as people read it."""
        return label

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Pearson and Spearman correlation (0 if one side is constant) and root mean squared error of [rows, 1].

        All are NaN if a prediction is not finite.
        """
        metrics = _import_metrics()
        with needs("train", "scoring numbers"):
            from scipy.stats import pearsonr, spearmanr

        expected = np.asarray(prediction.label_ids, dtype=np.float64).reshape(-1)
        predicted = _outputs(prediction).astype(np.float64).reshape(-1)
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


@dataclass(frozen=True)
class Answers:
    """A text, token by token, after another one."""

    labels: tuple[str, ...] = ()
    main_metric: str = "answer_loss"
    name = "answers"
    metrics = ("answer_loss", "token_accuracy")
    needs_head = False
    counts_tokens = True  # a loss is a mean over tokens, not over rows

    def model_settings(self) -> dict[str, Any]:
        """What the model's config must say: nothing."""
        return {}

    def encode(self, values: Sequence[Any], where: Where = by_index) -> list[str]:
        """The answers as texts; DataError, if one is empty or something else."""
        answers = []
        for index, value in enumerate(values):
            answer = as_text(value)
            if answer is None or is_blank(answer):
                raise DataError(f"answer {value!r} in {where(index)} is no text; fill or remove it")
            answers.append(answer)
        return answers

    def shown(self, label: Any) -> Any:
        """A label as people read it."""
        return label

    @staticmethod
    def reduce(logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
        """What is kept of a batch's logits [rows, tokens, words].

        Returns: [rows, 3]: the sum of -log p over the answer's tokens, how many were the likeliest, how many there are.
        """
        logits = (logits[0] if isinstance(logits, tuple) else logits)[:, :-1].float()
        expected = labels[:, 1:]
        counted = expected != IGNORED
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), expected, reduction="none")
        right = (logits.argmax(dim=-1) == expected) & counted
        return torch.stack([losses.sum(dim=1), right.sum(dim=1), counted.sum(dim=1)], dim=1)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss per token of the answers (natural logarithm), and the share of tokens that were the likeliest."""
        loss, right, count = _outputs(prediction).astype(np.float64).sum(axis=0)
        return {"answer_loss": float(loss / count), "token_accuracy": float(right / count)}

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """Loss per token of every row of [rows, 3]."""
        return [{"answer_loss": float(loss / count)} for loss, _, count in outputs]


@dataclass(frozen=True)
class Chat(Answers):
    """The assistant's answers in a conversation, token by token."""

    name = "chat"

    def encode(self, values: Sequence[Any], where: Where = by_index) -> list[Any]:
        """The answers, or the conversations that hold them, as they are."""
        return list(values)


Task = Classification | Regression | Answers


def choose_metric(task: Task, wanted: str | None) -> Task:
    """The task with another main metric.

    Args:
        wanted: name of the metric, with or without eval_ before it; None leaves the task as it is.

    Raises: ConfigError, if the task has no such metric.
    """
    metric = (wanted or task.main_metric).removeprefix("eval_")
    if metric not in (*task.metrics, "loss"):
        raise ConfigError(
            f"metric_for_best_model={wanted} is no metric of {_described(task)}; use {', '.join(task.metrics)} or loss"
        )
    return replace(task, main_metric=metric)


def lower_is_better(metric: str) -> bool:
    """Whether a metric counts what went wrong."""
    return metric in LOWER_IS_BETTER


def _described(task: Task) -> str:
    return f"{task.name} with {len(task.labels)} labels" if task.labels else task.name


def task_from(name: str, labels: Sequence[str]) -> Task:
    """The task of a finished training, from what was saved of it."""
    if name == "classification":
        return Classification(tuple(labels))
    kinds: dict[str, type[Regression] | type[Answers]] = {"answers": Answers, "chat": Chat, "regression": Regression}
    return kinds[name]()


def shorten(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _outputs(prediction: EvalPrediction) -> np.ndarray:
    outputs = prediction.predictions
    return np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)


def _import_metrics() -> Any:
    with needs("train", "scoring predictions"):
        from sklearn import metrics
    return metrics

"""Labels in, metrics out, compared with the formulas and with scipy and scikit-learn by hand."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from transformers import EvalPrediction

from fourierft.errors import ConfigError, DataError
from fourierft.training.families.classes import Classification
from fourierft.training.families.registry import family_of
from fourierft.training.families.regression import Regression


def test_task_survives_being_saved() -> None:
    for task in (Classification(("a", "b")), Regression()):
        assert family_of({"task": task.name, "inputs": task.kind, "labels": list(task.labels)}) == task


def test_classes_are_numbered_in_order_and_unknown_ones_refused() -> None:
    task = Classification(("0", "1", "x"))
    assert task.encode_labels([1, 0.0, "x", " 1 "]) == [1, 0, 2, 1]
    with pytest.raises(
        DataError,
        match=r"row 2 has the label 7, .* did not see \(2 of 3 rows have such labels: 1e0, 7\); it knows 0, 1, x; ",
    ):
        task.encode_labels([1, 7, "1e0"])


def test_whole_numbers_are_their_class_with_and_without_a_point() -> None:
    assert Classification(("0", "1")).encode_labels(["1.0", "0.0", 1.0, "0"]) == [1, 0, 1, 0]
    assert Classification(("0.0", "1.0")).encode_labels(["1", "0", "1.0"]) == [1, 0, 1]
    assert Classification(("1", "1.0")).encode_labels(["1", "1.0"]) == [0, 1], "where both are classes, as written"
    with pytest.raises(DataError, match="row 1 has the label 01, which training did not see"):
        Classification(("1", "10")).encode_labels(["01"])


@pytest.mark.parametrize("value", ["good", None, float("inf"), "nan", "1_000", "1e999", "0x10"])
def test_regression_refuses_what_is_no_number(value: object) -> None:
    assert Regression().encode_labels(["1.5", " -2e1 ", 3, Decimal("0.5")]) == [1.5, -20.0, 3.0, 0.5]
    with pytest.raises(DataError, match="in row 2 is not a number; regression needs one"):
        Regression().encode_labels(["1.5", value])
    with pytest.raises(DataError, match=r"label '0,5' in row 1 is not a number; write 0.5"):
        Regression().encode_labels(["0,5"])


def test_classification_metrics_are_those_of_the_confusion_matrix() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 2.0], [5.0, 0.0], [0.0, 1.0]])
    labels = np.array([0, 1, 0, 0, 1])  # predicted 0 1 1 0 1: TP 2, TN 2, FP 1, FN 0
    metrics = Classification(("n", "y")).score(EvalPrediction(logits, labels))
    assert metrics["accuracy"] == pytest.approx(4 / 5)
    assert metrics["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))  # of the second class, as GLUE counts it
    assert metrics["f1_macro"] == pytest.approx((2 * 2 / (2 * 2 + 0 + 1) + 2 * 2 / (2 * 2 + 1 + 0)) / 2)
    assert metrics["matthews"] == pytest.approx((2 * 2 - 1 * 0) / np.sqrt(3 * 2 * 3 * 2))


def test_f1_is_that_of_the_second_class_and_of_two_classes_only() -> None:
    logits = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])  # predicted 1 1 0 1
    labels = np.array([1, 0, 0, 1])  # of class 1: TP 2, FP 1, FN 0; of class 0: TP 1, FP 0, FN 1
    two = Classification(("n", "y")).score(EvalPrediction(logits, labels))
    assert (two["f1"], two["f1_macro"]) == (pytest.approx(4 / 5), pytest.approx((4 / 5 + 2 / 3) / 2))
    three = Classification(("a", "b", "c"))
    scores = three.score(EvalPrediction(np.eye(3), np.array([0, 1, 1])))  # F1 of the classes: 1, 2/3, 0
    assert tuple(scores) == three.metrics == ("accuracy", "f1_macro", "matthews")
    assert scores["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_main_metric_can_be_chosen_from_those_there_are() -> None:
    assert Classification(("n", "y")).scored_by("eval_matthews").main_metric == "matthews"
    assert Regression().scored_by(None) == Regression()
    assert Regression().scored_by("loss").main_metric == "loss"
    with pytest.raises(ConfigError, match="f1 is not a metric of classification with 3 labels; use accuracy, f1_macro"):
        Classification(("a", "b", "c")).scored_by("f1")


def test_metrics_of_one_class_alone_are_numbers_without_warning() -> None:
    metrics = Classification(("n", "y")).score(EvalPrediction(np.array([[1.0, 0.0]] * 3), np.zeros(3, dtype=int)))
    assert metrics["accuracy"] == 1.0
    assert metrics["matthews"] == 0.0


def test_regression_metrics_are_those_of_the_formulas() -> None:
    predicted, expected = np.array([[1.0], [2.0], [4.0], [3.0]]), np.array([1.0, 2.0, 3.0, 5.0])
    metrics = Regression().score(EvalPrediction((predicted,), expected))
    assert metrics["pearson"] == pytest.approx(np.corrcoef(predicted[:, 0], expected)[0, 1])
    assert metrics["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # ranks 1 2 4 3 and 1 2 3 4
    assert metrics["rmse"] == pytest.approx(np.sqrt((1 + 4) / 4))


def test_correlation_with_a_constant_is_zero() -> None:
    metrics = Regression().score(EvalPrediction(np.ones((3, 1)), np.array([1.0, 2.0, 3.0])))
    assert metrics["pearson"] == metrics["spearman"] == 0.0


def test_outputs_are_decoded_to_labels_and_numbers() -> None:
    (row,) = Classification(("n", "y")).decode(np.array([[0.0, np.log(3.0)]], dtype=np.float32))
    assert row["prediction"] == "y"
    assert row["probability"] == pytest.approx(0.75)
    assert Regression().decode(np.array([[0.5]])) == [{"prediction": 0.5}]

"""Labels in, metrics out, compared with the formulas and with scipy and scikit-learn by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import EvalPrediction

from fourierft.errors import ConfigError, DataError
from fourierft.training.tasks import Classification, Regression, choose_metric, detect_task, task_from


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no", "yes"], Classification(("no", "yes"))),
        ([10, 9, 2], Classification(("2", "9", "10"))),
        ([True, False], Classification(("False", "True"))),
        ([1.0, 0.0, 1.0], Classification(("0", "1"))),
        ([0.5, 1.0, -2.0], Regression()),
    ],
)
def test_task_follows_from_the_labels(values: list[Any], task: Classification | Regression) -> None:
    assert detect_task(values, "auto", "label") == task


def test_wanted_task_wins() -> None:
    assert detect_task([1, 2, 3], "regression", "label") == Regression()
    assert detect_task([f"n{i}" for i in range(100)], "classification", "label").model_settings()["num_labels"] == 100


def test_task_survives_being_saved() -> None:
    for task in (Classification(("a", "b")), Regression()):
        assert task_from(task.name, list(task.labels)) == task


@pytest.mark.parametrize(
    ("values", "wanted", "kind", "message"),
    [
        (["a"] * 5, "auto", DataError, "holds the one label a"),
        (
            [f"title {i}" for i in range(100)],
            "auto",
            DataError,
            "100 different labels in 100 rows, too many for classes",
        ),
        ([1, 2], "ranking", ConfigError, "use classification, regression, answers, chat or auto"),
    ],
)
def test_labels_of_no_task_are_refused(values: list[Any], wanted: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        detect_task(values, wanted, "mood")


def test_classes_are_numbered_in_order_and_unknown_ones_refused() -> None:
    task = Classification(("0", "1", "x"))
    assert task.encode([1, 0.0, "x", "1"], "test") == [1, 0, 2, 1]
    with pytest.raises(DataError, match="the test data has the labels 7, which training did not; it knows 0, 1, x"):
        task.encode([1, 7], "test")


@pytest.mark.parametrize("value", ["good", None, float("inf")])
def test_regression_refuses_what_is_no_number(value: object) -> None:
    with pytest.raises(DataError, match="in row 2 of the train data is no number"):
        Regression().encode(["1.5", value], "train")


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


def test_classes_that_the_data_set_names_keep_its_order() -> None:
    task = detect_task(["not_equivalent", "equivalent"], "auto", "label", ["not_equivalent", "equivalent", "unsure"])
    assert task == Classification(("not_equivalent", "equivalent", "unsure"))


def test_main_metric_can_be_chosen_from_those_there_are() -> None:
    assert choose_metric(Classification(("n", "y")), "eval_matthews").main_metric == "matthews"
    assert choose_metric(Regression(), None) == Regression()
    assert choose_metric(Regression(), "loss").main_metric == "loss"
    with pytest.raises(ConfigError, match="f1 is no metric of classification with 3 labels; use accuracy, f1_macro"):
        choose_metric(Classification(("a", "b", "c")), "f1")


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

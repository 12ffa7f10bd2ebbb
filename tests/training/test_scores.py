"""Which evaluations of a training are told, on a log written by hand."""

from __future__ import annotations

import math

from fourierft.training.scores import score_rows, scores_at, sum_up

HISTORY = [
    {"eval_loss": 0.9, "eval_accuracy": 0.95, "eval_runtime": 0.1, "epoch": 0, "step": 0},
    {"loss": 0.7, "epoch": 0.5, "step": 5},
    {"eval_loss": 0.6, "eval_accuracy": 0.7, "eval_runtime": 0.1, "epoch": 1.0, "step": 10},
    {"eval_loss": 0.5, "eval_accuracy": 0.8, "eval_runtime": 0.1, "epoch": 2.0, "step": 20},
    {"eval_loss": 0.4, "eval_accuracy": 0.8, "eval_runtime": 0.1, "epoch": 3.0, "step": 30},
    {"eval_loss": 0.3, "eval_accuracy": 0.6, "eval_runtime": 0.1, "epoch": 4.0, "step": 40},
    {"test_loss": 0.1, "test_accuracy": 1.0, "epoch": 4.0, "step": 40},
]


def test_best_is_the_first_of_the_highest_after_the_start_and_last_the_last() -> None:
    found = sum_up(HISTORY, "accuracy")
    assert found["before"] == {"epoch": 0, "step": 0, "loss": 0.9, "accuracy": 0.95}
    assert found["best"] == {"epoch": 2.0, "step": 20, "loss": 0.5, "accuracy": 0.8}
    assert found["last"] == {"epoch": 4.0, "step": 40, "loss": 0.3, "accuracy": 0.6}


def test_of_a_loss_the_lowest_is_best() -> None:
    assert sum_up(HISTORY, "loss")["best"]["step"] == 40


def test_a_score_that_is_no_number_is_never_best() -> None:
    broken = [{**HISTORY[2], "eval_accuracy": math.nan}, *HISTORY[3:]]
    assert sum_up(broken, "accuracy")["best"]["step"] == 20


def test_one_evaluation_is_neither_best_nor_last() -> None:
    assert sum_up(HISTORY[1:3], "accuracy") == {}


def test_scores_are_found_by_step() -> None:
    assert scores_at(HISTORY, 20, "eval") == {"loss": 0.5, "accuracy": 0.8, "runtime": 0.1}
    assert scores_at(HISTORY, 40, "test") == {"loss": 0.1, "accuracy": 1.0}
    assert scores_at(HISTORY, 15, "eval") is None


def test_the_table_says_what_was_chosen_on_the_data_that_scored_it() -> None:
    metrics = {"eval": {"accuracy": 0.6, "runtime": 0.1}, "main_metric": "accuracy", "saved": "last"}
    rows = score_rows({**metrics, **sum_up(HISTORY, "accuracy")})
    assert rows == [
        ("accuracy", "0.6000", "validation data, the model saved (last)"),
        ("accuracy", "0.8000", "the best epoch, 2, chosen on this validation data"),
        ("accuracy", "0.6000", "the last epoch, 4"),
        ("accuracy", "0.9500", "before training"),
    ]

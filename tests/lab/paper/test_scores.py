"""Scores over epochs, seeds and learning rates."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

from lab.paper.scores import best_epoch, over_seeds, stand_in_rows


def test_best_epoch_is_the_best_evaluation_and_not_the_last(make_row: Callable) -> None:
    row = make_row("movies", "lora:8", 1e-3, 0.6, eval_curve=[[1, 0.5], [2, 0.7], [3, 0.6]])
    assert best_epoch(row) == 0.7
    assert best_epoch({**row, "lower_is_better": True}) == 0.5
    assert best_epoch({**row, "score": None}) is None


def test_seeds_are_summed_up_by_their_median_at_the_better_rate(make_row: Callable) -> None:
    def rows(method: str, rate: float, *scores: float | None) -> list[dict]:
        return [make_row("roberta-base/rte", method, rate, score, seed=seed) for seed, score in enumerate(scores)]

    found = [*rows("lora:8,lora_alpha=8", 1e-3, 0.5, 0.9, 0.6), *rows("lora:8,lora_alpha=8", 1e-2, 0.1, 0.2, None)]
    found += rows("lora:80", 1e-3, 0.99)
    assert over_seeds(found, "roberta-base/rte", "lora:8") == 0.6
    assert over_seeds(found, "roberta-base/rte", "lora:8", average=mean) == mean([0.5, 0.9, 0.6])
    assert over_seeds(found, "roberta-base/rte", "fourierft:1000") is None
    assert over_seeds(found, "roberta-base/cola", "lora:8") is None


def test_a_stand_in_is_shown_under_the_settings_of_its_last_run(make_row: Callable) -> None:
    old, real = (
        make_row("movies", "lora:1", 1e-3, 0.5, protocol="old"),
        make_row("roberta-base/rte", "lora:1", 1e-3, 0.9),
    )
    new = make_row("movies", "lora:1", 1e-3, 0.6)
    assert stand_in_rows([old, real, new], "movies") == [new]
    assert stand_in_rows([real], "movies") == []

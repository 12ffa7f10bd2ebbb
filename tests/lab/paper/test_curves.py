"""Figure 6: curves of accuracy, F1 and training loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fourierft.training.output import read_json_lines
from lab.paper.curves import curve
from lab.paper.run import find_experiment, reproduce


def test_curves_are_kept_by_step_and_drawn(tiny_stand_ins: Path) -> None:
    experiment = find_experiment("fig6")
    choice = experiment.choose(stand_in=True, overrides={"max_steps": 2, "eval_steps": 1, "logging_steps": 1})
    page = reproduce(experiment, choice, "python -m lab paper fig6", tiny_stand_ins, tiny_stand_ins, lambda _: None)
    lora, fourier = read_json_lines(tiny_stand_ins / "fig6.jsonl")
    for row in (lora, fourier):
        assert [step for step, _ in row["eval_curves"]["f1"]] == [1, 2]
        assert [step for step, _ in row["loss_curve"]] == [1, 2]
    assert (tiny_stand_ins / "fig6-movies.png").exists()
    assert f"| LoRA r=1 | {lora['parameters']['adapter']} | 0.003 |" in page.read_text()


def test_curve_is_the_mean_over_seeds(make_row: Callable) -> None:
    rows = [make_row("movies", "lora:1", 1e-3, score, seed=seed) for seed, score in enumerate((0.5, 0.7))]
    assert curve(rows, "accuracy") == [(1, 0.6), (2, 0.6)]
    assert curve(rows, "loss") == [(1, 2.0), (2, 1.0)]


def test_plan_gives_both_methods_as_many_numbers() -> None:
    names = find_experiment("fig6").names(find_experiment("fig6").choose(stand_in=True))
    assert names == [
        "movies: LoRA r=1, learning rate 0.003, seed 0",
        "movies: FourierFT n=768, learning rate 0.01, seed 0",
    ]

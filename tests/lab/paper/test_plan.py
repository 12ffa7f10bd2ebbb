"""Runs made of recipes and stand-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.training import output
from fourierft.training.output import read_json_lines
from lab.ledger import Ledger
from lab.paper import plan
from lab.paper.experiment import Choice

CHOICE = Choice(tasks=("movies",), models=(), seeds=(3,), is_stand_in=True, overrides={"max_steps": 1})


def ledger(folder: Path, told: list[str]) -> Ledger:
    return Ledger(folder / "fig4.jsonl", {"experiment": "fig4", "stand_in": True, "command": "c"}, told.append)


def test_trial_of_a_recipe_is_the_papers_adapter_at_its_learning_rate() -> None:
    assert plan.recipe_trial(plan.glue_recipe("cola", "roberta-base")) == {
        "fourierft:1000,scaling=49,random_loc_seed=2024,init_weights=false": (1.2e-1,)
    }
    (spec,) = plan.recipe_trial(plan.glue_recipe("mrpc", "roberta-large"), 1536, "basis=random")
    assert spec == "fourierft:1536,scaling=120,random_loc_seed=2024,init_weights=false,basis=random"


def test_recipe_lends_everything_but_method_rate_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "model_name_or_path: some/model\ntarget_modules: [query]\nmethod: fourierft\nn_frequency: 7\nscaling: 3\n"
        "learning_rate: 1\nseed: 5\noutput_dir: out\nnum_train_epochs: 30\nhead_learning_rate: 0.5\n"
    )
    monkeypatch.setattr(plan, "RECIPES", tmp_path)
    task = plan.recipe_task("m/t", "recipe.yaml", {"lora:2": (1e-3, 1e-2)}, CHOICE, num_train_epochs=4)
    assert dict(task.settings) == {
        "model_name_or_path": "some/model", "num_train_epochs": 4, "head_learning_rate": 0.5, "max_steps": 1
    }  # fmt: skip
    assert [(run.method.spec, run.learning_rate, run.seed) for run in task.runs()] == [
        ("lora:2", 1e-3, 3), ("lora:2", 1e-2, 3)
    ]  # fmt: skip
    assert task.methods[0].config["target_modules"] == ["query"]


def test_runs_of_a_plan_are_rows_with_their_stamp_and_done_once(tiny_stand_ins: Path) -> None:
    told: list[str] = []

    def trials(choice: Choice) -> list:
        return [plan.stand_in_task("movies", {"lora:1": (1e-3,)}, choice)]

    assert plan.names_of(trials)(CHOICE) == ["movies: LoRA r=1, learning rate 0.001, seed 3"]
    plan.run_plan(trials)(CHOICE, ledger(tiny_stand_ins, told))
    rows = read_json_lines(tiny_stand_ins / "fig4.jsonl")
    assert [(row["seed"], row["steps"], row["experiment"], row["command"]) for row in rows] == [
        (3, 1, "fig4", "c")
    ]  # fmt: skip
    assert rows[0]["eval_curves"]["accuracy"] == rows[0]["eval_curve"]
    plan.run_plan(trials)(CHOICE, ledger(tiny_stand_ins, told))
    assert told[-1] == "movies: 1 runs, 0 to do now"
    assert read_json_lines(tiny_stand_ins / "fig4.jsonl") == rows


def test_rows_of_compare_are_taken_over(tiny_stand_ins: Path) -> None:
    told: list[str] = []

    def trials(choice: Choice) -> list:
        return [plan.stand_in_task("movies", {"lora:1": (1e-3,)}, choice)]

    first = tiny_stand_ins / "first"
    plan.run_plan(trials)(CHOICE, ledger(first, told))
    for row in read_json_lines(first / "fig4.jsonl"):
        bare = {key: value for key, value in row.items() if key not in ("experiment", "stand_in", "command")}
        output.append_json_line(tiny_stand_ins / "quality" / "movies" / "runs.jsonl", bare)
    plan.run_plan(trials)(CHOICE, ledger(tiny_stand_ins, told))
    assert told[-1] == "movies: 1 runs, 0 to do now"
    taken = read_json_lines(tiny_stand_ins / "fig4.jsonl")
    assert [(row["from"], row["command"]) for row in taken] == [("docs/quality/movies", "c")]

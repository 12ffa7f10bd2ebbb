"""Runs of a grid: a line each, none twice, and a diverged or interrupted one costs nothing but itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import ConfigError
from fourierft.training.comparison import grid
from fourierft.training.comparison.grid import format_time, run_grid, run_key
from fourierft.training.comparison.tasks import read_task
from fourierft.training.lock import held
from fourierft.training.progress import StepTimer
from fourierft.training.trainer import TrainingInterrupted


def test_every_run_leaves_a_line_and_is_done_once(
    task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    task, out = read_task(task_file), tmp_path / "out"
    assert len(run_grid(task, out, max_runs=2, tell=told.append)) == 2
    rows = run_grid(task, out, tell=told.append)
    assert [(row["method"], row["learning_rate"]) for row in rows] == [
        ("head", 1e-2), ("lora:8", 1e-3), ("fourierft:50", 1e-3), ("lora:8", 1e-2), ("fourierft:50", 1e-2)
    ]  # fmt: skip
    assert [row["parameters"]["adapter"] for row in rows[:3]] == [0, 4 * 2 * 32 * 8, 4 * 50]
    assert told[1].startswith("run 1 of 2, about")
    assert told[-1].startswith("run 3 of 3, about 0 s left: FourierFT n=50, learning rate 0.01, seed 0: accuracy")
    for row in rows:
        assert [step for step, _ in row["loss_curve"]] == [1, 2]
        assert row["eval_curve"][-1] == [2, row["score"]]
        assert row["score"] == row["metrics"]["accuracy"]
        assert row["bytes"]["file"] > row["bytes"]["adapter"] > 0
    assert not (out / "runs").exists()
    monkeypatch.setattr(grid, "train", lambda arguments: pytest.fail("all was done"))
    assert run_grid(task, out, tell=told.append) == rows


def test_a_run_that_another_process_is_at_is_left_to_it(
    task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    task, out = read_task(task_file).change(["head"]), tmp_path / "out"
    key = run_key(task.runs()[0], task.protocol(task.prepare()))
    with held(out / "runs", f"{key}.pid"):
        assert run_grid(task, out, tell=told.append) == []
    assert "head only, learning rate 0.01, seed 0: left out, as process" in told[-1]
    (row,) = run_grid(task, out, tell=told.append)
    (out / "runs.jsonl").unlink()

    def find(path: Path) -> list[Any]:
        return [row] if (out / "runs").exists() else []  # the other is done when this one gets at it

    monkeypatch.setattr(grid.output, "read_json_lines", find)
    monkeypatch.setattr(grid, "train", lambda arguments: pytest.fail("it was done"))
    run_grid(task, out, tell=told.append)
    assert told[-1] == "head only, learning rate 0.01, seed 0: finished by another process"


def test_other_settings_are_other_runs(task_file: Path, tmp_path: Path) -> None:
    run_grid(read_task(task_file).change(["head"]), tmp_path / "out", tell=lambda _: None)
    task_file.write_text(task_file.read_text().replace("max_steps: 2", "max_steps: 1"))
    rows = run_grid(read_task(task_file).change(["head"]), tmp_path / "out", tell=lambda _: None)
    assert [row["steps"] for row in rows] == [1]
    assert len((tmp_path / "out" / "runs.jsonl").read_text().splitlines()) == 2


def test_runs_without_rows_to_score_them_on_are_refused_before_the_first(
    write_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "train", lambda arguments: pytest.fail("nothing is trained"))
    file = write_task("unscored", validation_file=None, validation_fraction=0)
    text = "\n".join(line for line in file.read_text().splitlines() if "validation_file" not in line)
    file.write_text(text)
    with pytest.raises(
        ConfigError, match=r"task unscored has no validation rows to score its runs on \(validation_fraction=0\)"
    ):
        run_grid(read_task(file), tmp_path / "out", tell=lambda _: None)
    (tmp_path / "set").mkdir()
    shutil.copy(tmp_path / "rows.csv", tmp_path / "set" / "train.csv")
    file.write_text(text.replace("train_file", "dataset_name").replace("rows.csv", "set"))
    with pytest.raises(ConfigError, match="no validation rows to score its runs on"):
        run_grid(read_task(file), tmp_path / "out", tell=lambda _: None)
    shutil.copy(tmp_path / "rows.csv", tmp_path / "set" / "validation.csv")
    with pytest.raises(pytest.fail.Exception, match="nothing is trained"):
        run_grid(read_task(file), tmp_path / "out", tell=lambda _: None)


def test_kept_run_can_be_evaluated(task_file: Path, tmp_path: Path) -> None:
    task = read_task(task_file).change(["fourierft:50"], [1e-2])
    (row,) = run_grid(task, tmp_path / "out", keep=True, tell=lambda _: None)
    metrics = json.loads((tmp_path / "out" / "runs" / row["key"] / "metrics.json").read_text())
    assert metrics["eval"]["accuracy"] == row["score"]


def test_diverged_run_is_a_row_without_score(task_file: Path, tmp_path: Path) -> None:
    told: list[str] = []
    task = read_task(task_file).change(["full"], [1e30])
    (row,) = run_grid(task, tmp_path / "out", tell=told.append)
    assert row["score"] is None
    assert row["note"].startswith("diverged")
    assert "diverged" in told[-1]


def test_interrupted_run_goes_on(task_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, real = read_task(task_file).change(["lora:8"], [1e-2]), StepTimer.on_step_end
    (whole,) = run_grid(task, tmp_path / "whole", tell=lambda _: None)

    def interrupt(self: StepTimer, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StepTimer, "on_step_end", interrupt)
        with pytest.raises(TrainingInterrupted):
            run_grid(task, tmp_path / "out", tell=lambda _: None)
    assert not (tmp_path / "out" / "runs.jsonl").exists()
    (row,) = run_grid(task, tmp_path / "out", tell=lambda _: None)
    assert row["metrics"]["loss"] == pytest.approx(whole["metrics"]["loss"], rel=1e-6)
    assert row["loss_curve"] == whole["loss_curve"]


def test_language_model_without_training_is_the_head_alone(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "the film is", "answer": word} for word in ("good", "bad", "fine", "dull")]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "answers.yaml").write_text(
        f"""
model_name_or_path: {tiny_llama}
train_file: {tmp_path / "rows.json"}
validation_file: {tmp_path / "rows.json"}
task: answers
use_cpu: true
max_steps: 1
methods: [head, "fourierft:20"]
learning_rates: [1e-12]
"""
    )
    head, adapter = run_grid(read_task(tmp_path / "answers.yaml"), tmp_path / "out", tell=lambda _: None)
    assert head["parameters"]["adapter"] == head["bytes"]["file"] == head["steps"] == 0
    assert head["lower_is_better"]
    assert head["score"] == pytest.approx(adapter["score"], rel=1e-6)


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (700, "12 min"), (9000, "2.5 h")])
def test_time_is_said_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format_time(seconds) == text

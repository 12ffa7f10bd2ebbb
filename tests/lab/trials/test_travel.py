"""How far a step goes, against the rule on a task of seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.training.comparison.tasks import read_task
from lab.__main__ import main
from lab.trials import travel as command
from lab.trials.travel import travel


def test_a_first_step_moves_layers_by_the_norm_of_the_rule(write_task: Callable[..., Path]) -> None:
    task = read_task(write_task("movies", methods=["fourierft:50"], max_steps=20))
    after_one, after_twenty = travel(task, task.runs()[0])
    noise, half = 4 * 32, 50 / 2  # of the signs of 50 gradients at width 32
    first = 200 * math.sqrt(half * (noise + half) / (10 * half * (noise + 10 * half)))
    assert after_one == pytest.approx(first, rel=0.35)
    assert after_one < after_twenty < 20 * after_one


def test_a_first_step_of_lora_grows_with_its_scaling(write_task: Callable[..., Path]) -> None:
    task = read_task(write_task("movies", methods=["lora:8", "lora:8,lora_alpha=32"], max_steps=20))
    first, second = (travel(task, run)[0] for run in task.runs())
    assert second == pytest.approx(2 * first, rel=1e-3)


def test_runs_leave_rows_and_are_not_done_again(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task("movies", max_steps=20)
    for name, value in {
        "COMPARISONS": tmp_path,
        "RESULTS": tmp_path / "travel.jsonl",
        "PAGE": tmp_path / "travel.md",
        "METHODS": (),
        "BEST_FORM": {"movies": "fourierft:50"},
    }.items():
        monkeypatch.setattr(command, name, value)
    assert main(["trials", "travel"]) == 0
    page = (tmp_path / "travel.md").read_text()
    assert "| movies | FourierFT n=50 | " in page
    monkeypatch.setattr(command, "travel", lambda *_: pytest.fail("it was done"))
    assert main(["trials", "travel"]) == 0
    assert (tmp_path / "travel.md").read_text() == page

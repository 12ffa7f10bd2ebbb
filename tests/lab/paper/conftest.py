"""Stand-ins and rows of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.paper import plan

Row = dict[str, Any]


@pytest.fixture
def tiny_stand_ins(write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in `movies` as two steps on sixteen sentences, and no runs of `fourierft compare` to take over."""
    write_task("movies", per_device_train_batch_size=8)
    monkeypatch.setattr(plan, "STAND_INS", tmp_path)
    monkeypatch.setattr(plan, "QUALITY", tmp_path / "quality")
    return tmp_path


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """Makes the row of a training as `python -m lab paper` leaves it."""

    def make_row(task: str, method: str, rate: float, score: float | None, **changes: Any) -> Row:
        family, _, size = method.partition(",")[0].partition(":")
        field = "r" if family == "lora" else "n_frequency"
        extras = dict(extra.split("=") for extra in method.split(",")[1:])
        return {
            "experiment": "fig4",
            "stand_in": "/" not in task,
            "command": "python -m lab paper fig4",
            "task": task,
            "method": method,
            "family": family,
            "title": f"{family} {size}",
            "config": {field: int(size or 0), **extras},
            "learning_rate": rate,
            "seed": 0,
            "metric": "accuracy",
            "lower_is_better": False,
            "score": score,
            "parameters": {"adapter": 24 * int(size or 0), "head": 10, "base": 1000},
            "bytes": {"adapter": 400, "file": 440},
            "seconds_per_step": 0.5,
            "eval_curve": [[1, score], [2, score]],
            "eval_curves": {"accuracy": [[1, score], [2, score]], "f1": [[1, 0.5], [2, 0.6]]},
            "loss_curve": [[1, 2.0], [2, 1.0]],
            "versions": {"torch": "2"},
            "device": "cpu, 1 threads",
            "protocol": "p",
            **changes,
        }

    return make_row

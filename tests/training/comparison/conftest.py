"""A task of seconds, and rows as runs leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.comparison.results import Row


@pytest.fixture
def task_file(write_task: Callable[..., Path]) -> Path:
    """A task file: three methods, two learning rates."""
    return write_task("films", methods=["head", "lora:8", "fourierft:50"], learning_rates=[1e-3, 1e-2])


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """Makes the row of a run."""

    def make_row(method: str, rate: float, score: float | None, seed: int = 0, **changes: Any) -> Row:
        family = method.partition(":")[0]
        return {
            "task": "films",
            "method": method,
            "family": family,
            "title": method,
            "learning_rate": rate,
            "seed": seed,
            "score": score,
            "metric": "accuracy",
            "lower_is_better": False,
            "parameters": {"adapter": 0 if family == "head" else 100, "head": 10},
            "bytes": {"adapter": 400, "file": 440},
            "seconds_per_step": 0.5,
            "seconds": 3.0,
            "loss_curve": [[1, 2.0], [2, 1.0]],
            "eval_curve": [[2, score]],
            "versions": {"torch": "2"},
            "device": "cpu, 1 threads",
            **changes,
        }

    return make_row

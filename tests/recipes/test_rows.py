"""The recipes of `fourierft compare` and the runs under docs/quality that were made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourierft.training.comparison.grid import run_key
from fourierft.training.comparison.tasks import read_task

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("movies", "digits", "instructions", "glosses", "qwen-0.5b", "qwen-1.5b")


@pytest.mark.parametrize("name", TASKS)
def test_comparing_again_trains_nothing(name: str) -> None:
    lines = (ROOT / "docs" / "quality" / name / "runs.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    done, protocol = {row["key"] for row in rows}, rows[-1]["protocol"]  # the settings and data of the newest row
    runs = read_task(ROOT / "recipes" / "compare" / f"{name}.yaml").runs()
    assert [
        f"{run.method.spec} {run.learning_rate} {run.seed}" for run in runs if run_key(run, protocol) not in done
    ] == []

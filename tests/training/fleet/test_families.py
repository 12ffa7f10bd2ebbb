"""Adapters of every task family train in a fleet to what stock PEFT and torch make of their rows alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.fleet.plan import plan_fleet
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def write_labels(row: dict[str, Any]) -> dict[str, Any]:
    """Several labels of a row: whether it is said strongly, and whether it is good."""
    labels = ["strong"] * ("very" in row["text"]) + ["good"] * (row["label"] == "yes")
    return {"adapter": row["adapter"], "text": row["text"], "labels": labels}


def write_tags(row: dict[str, Any]) -> dict[str, Any]:
    """A tag for each word, so that rows differ in how many there are."""
    words = row["text"].split()
    tags = ["B-HOW" if word == "very" else "O" for word in words[:-1]] + [f"B-{row['label']}"]
    return {"adapter": row["adapter"], "tokens": words, "tags": tags}


@pytest.mark.parametrize(
    ("task", "change"), [("multi_label_classification", write_labels), ("token_classification", write_tags)]
)
def test_an_adapter_is_what_it_becomes_alone(
    build: Callable[..., FleetArguments],
    make_rows: Any,
    tmp_path: Path,
    check_alone: Any,
    task: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(change(row)) for row in make_rows()))
    settings = {"rows": 3, "adapters": 2, "weight_decay": 0.1, "head_learning_rate": 5e-3, "learning_rate": 1e-2}
    arguments = build(train_file=str(tmp_path / "rows.jsonl"), task=task, **settings)
    assert plan_fleet(arguments).record["task"] == task
    assert set(train_fleet(arguments)["adapters"]) == {"ann", "bob", "cy"}
    for name in ("ann", "bob", "cy"):
        check_alone(arguments, name)

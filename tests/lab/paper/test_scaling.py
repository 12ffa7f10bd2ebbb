"""Figure 4: scores by size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.paper.run import find_experiment


def test_sizes_are_points_and_a_table(make_row: Callable, tmp_path: Path) -> None:
    rows = [
        make_row("roberta-base/mrpc", "lora:1", 1e-3, 0.87),
        make_row("roberta-base/mrpc", "lora:1", 1e-2, 0.88),
        make_row("roberta-base/mrpc", "fourierft:50", 1e-2, 0.89),
        make_row("digits", "lora:1", 3e-3, 0.79),
    ]
    text = "\n".join(find_experiment("fig4").page(rows, tmp_path))
    assert "| lora 1 | 88.0 | - | - | - | - | - |" in text
    assert "| fourierft 50 | 89.0 | - | - | - | - | - |" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"fig4.png", "fig4-digits.png"}


def test_nothing_run_leaves_the_papers_claims_alone(tmp_path: Path) -> None:
    (block,) = find_experiment("fig4").page([], tmp_path)
    assert "31 times" in block
    assert list(tmp_path.iterdir()) == []

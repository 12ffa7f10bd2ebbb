"""Table 6: three bases trained alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fourierft.training.output import read_json_lines
from lab.paper.run import find_experiment, reproduce


def test_three_bases_are_trained_and_set_side_by_side(tiny_stand_ins: Path) -> None:
    experiment = find_experiment("table6")
    choice = experiment.choose(tasks=["movies"], stand_in=True)
    page = reproduce(experiment, choice, "python -m lab paper table6", tiny_stand_ins, tiny_stand_ins, lambda _: None)
    rows = read_json_lines(tiny_stand_ins / "table6.jsonl")
    assert [row["config"].get("basis") for row in rows] == [None, "random", "orthogonal"]
    assert [row["parameters"]["adapter"] for row in rows] == [4000] * 3
    assert len({row["metrics"]["loss"] for row in rows}) == 3
    text = page.read_text()
    assert "FourierFT n=1000, basis=orthogonal" in text
    assert "| roberta-base, fourier | paper | 79.1 | 63.8 |\n| roberta-base, random | paper | 72.7 | 58.7 |" in text


def test_runs_on_the_papers_models_stand_under_its_numbers(make_row: Callable, tmp_path: Path) -> None:
    method = "fourierft:1000,scaling=110,random_loc_seed=2024,init_weights=false"
    rows = [
        make_row("roberta-base/rte", method, 9e-2, 0.8),
        make_row("roberta-base/rte", f"{method},basis=random", 9e-2, 0.7),
    ]
    text = "\n".join(find_experiment("table6").page(rows, tmp_path))
    assert "| roberta-base, fourier | paper | 79.1 | 63.8 |\n|  | here | 80.0 | - |" in text
    assert "| roberta-base, random | paper | 72.7 | 58.7 |\n|  | here | 70.0 | - |" in text

"""Tables 2 and 5: the paper's lines, ours under those that were run, quoted ones said to be so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.paper import glue, images
from lab.paper.run import find_experiment


def test_glue_shows_the_median_of_the_best_epochs(make_row: Callable, tmp_path: Path) -> None:
    method = "fourierft:1000,scaling=110,random_loc_seed=2024,init_weights=false"
    curves = [[[1, 0.80], [2, 0.70]], [[1, 0.60], [2, 0.78]], [[1, 0.50], [2, 0.79]]]
    rows = [
        make_row("roberta-base/rte", method, 9e-2, curve[-1][1], seed=seed, eval_curve=curve)
        for seed, curve in enumerate(curves)
    ]
    text = "\n".join(find_experiment("table2").page(rows, tmp_path))
    paper = "| FourierFT n=1000 (0.024M) | paper | 94.2 | 90.0 | 63.8 | 92.2 | 79.1 | 90.8 | 85.0 |"
    assert f"{paper}\n|  | here | - | - | - | - | 79.0 | - | - |" in text
    assert "| Adapter D, quoted (0.3M) | paper | 94.2 |" in text


def test_glue_runs_fourierft_as_table_9_and_baselines_at_their_own_rates() -> None:
    choice = find_experiment("table2").choose(tasks=["rte"], models=["roberta-base"], seeds=[0])
    ours, baselines = glue.plan(choice)
    assert [(run.method.spec, run.learning_rate) for run in ours.runs()] == [
        ("fourierft:1000,scaling=110,random_loc_seed=2024,init_weights=false", 9e-2)
    ]
    assert ours.settings["head_learning_rate"] == 0.011
    assert baselines.settings["head_learning_rate"] is None
    assert {run.method.spec: run.learning_rate for run in baselines.runs()}["lora:8,lora_alpha=8"] == 5e-4


@pytest.mark.parametrize("name", ["table2", "table5", "table6", "fig4", "fig5", "fig6"])
def test_every_cell_has_its_recipe(name: str) -> None:
    experiment = find_experiment(name)
    assert len(experiment.names(experiment.choose(seeds=[0]))) >= 2


def test_images_show_both_sizes_of_fourierft(make_row: Callable, tmp_path: Path) -> None:
    method = "fourierft:10000,scaling=300,random_loc_seed=2024,init_weights=false"
    rows = [make_row(f"vit-base/{task}", method, 3e-1, 0.8, test_score=0.9) for task in images.TASKS]
    text = "\n".join(find_experiment("table5").page(rows, tmp_path))
    assert f"|  | here |{' 90.00 |' * 9}" in text
    assert "| FourierFT n=3000 | paper | 93.21 |" in text

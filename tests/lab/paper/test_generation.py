"""Tables 3, 4 and 13: five metrics of texts, and tables that are quoted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import ConfigError
from lab.paper import generation
from lab.paper.run import find_experiment, reproduce


def test_e2e_is_the_mean_over_runs_beside_the_papers(make_row: Callable, tmp_path: Path) -> None:
    method = "fourierft:2000,scaling=636.4,random_loc_seed=2024,init_weights=false"
    texts = {"bleu": 68.0, "nist": 8.5, "meteor": 46.0, "rouge_l": 71.0, "cider": 2.4}
    rows = [
        make_row("gpt2-medium/e2e", method, 2e-2, 1.0, seed=seed, texts={**texts, "bleu": bleu})
        for seed, bleu in enumerate((68.0, 70.0))
    ]
    text = "\n".join(find_experiment("table3").page(rows, tmp_path))
    assert (
        "| FourierFT | paper | 69.10 | 8.82 | 47.00 | 71.80 | 2.51 |\n|  | here | 69.00 | 8.50 | 46.00 | 71.00 | 2.40 |"
    ) in text
    assert "| adapter_l_037, quoted | paper | 66.30 | 8.41 |" in text


def test_e2e_trains_by_the_recipe_and_writes_by_beam_search() -> None:
    ours, lora = generation.plan(find_experiment("table3").choose(models=["gpt2-medium"], seeds=[0]))
    assert ours.methods[0].config["n_frequency"] == 2000
    assert ours.methods[0].config["target_modules"] == ["c_attn"]
    assert (ours.decoding.num_beams, ours.settings["test_file"]) == (10, "e2e/testset_w_refs.csv")
    assert (lora.methods[0].spec, lora.settings["warmup_steps"]) == ("lora:4,lora_alpha=32,lora_dropout=0.1", 500)


@pytest.mark.parametrize(
    ("name", "line"),
    [("table4", "| llama-2-7b | FourierFT n=1000 | 5.18 | 7.49 |"), ("table13", "| FourierFT, 0.19M | 244.9 |")],
)
def test_quoted_tables_are_shown_and_their_commands_named(name: str, line: str, tmp_path: Path) -> None:
    experiment = find_experiment(name)
    assert line in "\n".join(experiment.page([], tmp_path))
    with pytest.raises(ConfigError, match="has no runs of its own; train with `fourierft"):
        reproduce(experiment, experiment.choose(), "c", tmp_path, tmp_path)

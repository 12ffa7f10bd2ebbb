"""Table 3: data to text (E2E) with GPT-2, scored by the five metrics of the challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from fourierft.training.comparison.results import Row
from fourierft.training.comparison.tasks import Task
from fourierft.training.generation.decoding import Decoding
from lab.paper.experiment import Choice, Experiment
from lab.paper.page import Numbers, beside
from lab.paper.plan import names_of, recipe_task, recipe_trial, run_plan
from lab.paper.published import read_paper
from lab.paper.scores import is_method, paper_rows

MODELS = ("gpt2-medium", "gpt2-large")
SEEDS = (0, 1, 2)  # the paper takes the mean of three runs, and names no seeds
LORA = {"lora:4,lora_alpha=32,lora_dropout=0.1": (2e-4,)}  # of LoRA's own paper; this one names none
TEST_FILE = "e2e/testset_w_refs.csv"
METRICS = {"bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr"}
METHODS = {"full": ("full, quoted", None), "lora": ("LoRA r=4", "lora:4"), "fourierft": ("FourierFT", "fourierft:2000")}


def plan(choice: Choice) -> list[Task]:
    """LoRA and FourierFT; after the last epoch each writes texts for the test data, by the LoRA paper's beam search."""
    tasks = []
    for model in choice.models:
        recipe, name = f"e2e/{model}.yaml", f"{model}/e2e"
        tasks.append(recipe_task(name, recipe, recipe_trial(recipe), choice, test_file=TEST_FILE))
        tasks.append(recipe_task(name, recipe, LORA, choice, test_file=TEST_FILE, warmup_steps=500))
    return [replace(task, decoding=Decoding()) for task in tasks]


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The paper's table with ours, and the rows it quotes."""
    real, paper = paper_rows(rows), read_paper()["table3"]
    blocks = []
    for model in MODELS:
        lines: dict[str, tuple[Numbers, Numbers]] = {}
        for key, (title, method) in METHODS.items():
            group = [row for row in real if row["task"] == f"{model}/e2e" and method and is_method(row, method)]
            ours = [mean(row["texts"][metric] for row in group) if group else None for metric in METRICS]
            lines[title] = (paper[model][key], ours)
        quoted: dict[str, tuple[Numbers, Numbers]] = {
            f"{name}, quoted": (scores, []) for name, scores in paper["quoted"][model].items()
        }
        blocks += [f"{model}:", beside(list(METRICS.values()), {**lines, **quoted}, digits=2)]
    return [
        "The paper: test data, the last epoch, mean of three runs; rows marked so are quoted from earlier work. GPT-2 "
        "has one layer for query, key and value: n = 2000 there are as many as n = 1000 in two of the three. The "
        "METEOR here is not that of the challenge's script, see [generation.md](../generation.md).",
        *blocks,
    ]


EXPERIMENTS = (
    Experiment(
        "table3",
        "Table 3: data to text (E2E)",
        run_plan(plan),
        page,
        names_of(plan),
        models=MODELS,
        seeds=SEEDS,
        needs="GPT-2 medium and large, and E2E",
    ),
)

"""Table 2: GLUE with RoBERTa."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourierft.training.comparison.results import Row
from fourierft.training.comparison.tasks import Task
from lab.paper.experiment import Choice, Experiment
from lab.paper.page import average, beside, percent, stand_in_blocks
from lab.paper.plan import Trials, glue_recipe, names_of, recipe_task, recipe_trial, run_plan, stand_in_task
from lab.paper.published import read_paper
from lab.paper.scores import over_seeds, paper_rows

TASKS = ("sst2", "mrpc", "cola", "qnli", "rte", "stsb")
MODELS = ("roberta-base", "roberta-large")
SEEDS = (0, 11111, 22222, 33333, 44444)
# The paper quotes its baselines and has no rates for them: LoRA's are its own paper's, the other grids are ours.
FULL_RATES, BITFIT_RATES = (1e-5, 3e-5), (3e-4, 1e-3)
LORA = {"roberta-base": "lora:8,lora_alpha=8", "roberta-large": "lora:8,lora_alpha=16"}  # Table 9 of LoRA's paper
LORA_RATES = {
    "roberta-base": {"sst2": 5e-4, "mrpc": 4e-4, "cola": 4e-4, "qnli": 4e-4, "rte": 5e-4, "stsb": 4e-4},
    "roberta-large": {"sst2": 4e-4, "mrpc": 3e-4, "cola": 2e-4, "qnli": 2e-4, "rte": 4e-4, "stsb": 2e-4},
}
METHODS = {  # in published.toml: title, method here; quoted by the paper and not run here if there is none
    "full": ("full", "full"),
    "bitfit": ("BitFit", "bitfit"),
    "adapter_d_03": ("Adapter D, quoted", None),
    "adapter_d_09": ("Adapter D, quoted", None),
    "adapter_p_3": ("Adapter P, quoted", None),
    "adapter_p_08": ("Adapter P, quoted", None),
    "adapter_h_6": ("Adapter H, quoted", None),
    "adapter_h_08": ("Adapter H, quoted", None),
    "lora": ("LoRA r=8", "lora:8"),
    "adalora": ("AdaLoRA, quoted", None),
    "dylora": ("DyLoRA, quoted", None),
    "fourierft": ("FourierFT n=1000", "fourierft:1000"),
}
STAND_IN: Trials = {
    "head": (5e-3,),
    "full": (1e-4,),
    "lora:8": (1e-3, 3e-3, 1e-2),
    "fourierft:1000": (1e-3, 3e-3, 1e-2),
}


def plan(choice: Choice) -> list[Task]:
    """FourierFT as Table 9 sets it; the baselines with one learning rate for body and head."""
    if choice.is_stand_in:
        return [stand_in_task(name, STAND_IN, choice) for name in choice.tasks]
    tasks = []
    for model in choice.models:
        for task in choice.tasks:
            name, recipe = f"{model}/{task}", glue_recipe(task, model)
            baselines: Trials = {
                LORA[model]: (LORA_RATES[model][task],),
                "full": FULL_RATES,
                "bitfit": BITFIT_RATES,
            }
            tasks.append(recipe_task(name, recipe, recipe_trial(recipe), choice))
            tasks.append(recipe_task(name, recipe, baselines, choice, head_learning_rate=None))
    return tasks


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The paper's table with ours, and the stand-in."""
    real, paper, official = paper_rows(rows), read_paper()["table2"], read_paper()["table9"]["official"]
    blocks = []
    for model in MODELS:
        lines: dict[str, Any] = {}
        for key, (title, method) in METHODS.items():
            if key not in paper[model]:
                continue
            scores = [percent(over_seeds(real, f"{model}/{task}", method)) if method else None for task in TASKS]
            given = paper[model][key]
            lines[f"{title} ({given['params']})"] = (given["scores"], [*scores, average(scores)])
        blocks += [f"{model}:", beside([*(_heading(task) for task in TASKS), "average"], lines)]
    return [
        "The paper: dev set, median of five seeds, the best epoch of each run; in brackets what is trained below the "
        "head. The baselines' numbers are those of earlier work, without learning rates: here LoRA has those of its "
        f"own paper, full and BitFit the better of two of this project. Of the authors' logs: {official['note']}.",
        *blocks,
        *stand_in_blocks(rows, "movies"),
    ]


def _heading(task: str) -> str:
    return f"{task} ({read_paper()['table2']['metric'][task]})"


EXPERIMENTS = (
    Experiment(
        "table2",
        "Table 2: language understanding (GLUE)",
        run_plan(plan),
        page,
        names_of(plan),
        tasks=TASKS,
        models=MODELS,
        stand_ins=("movies",),
        seeds=SEEDS,
        needs="RoBERTa base and large, and GLUE",
    ),
)

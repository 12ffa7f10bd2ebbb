"""Table 5: image classification with ViT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from fourierft.training.comparison.results import Row
from fourierft.training.comparison.tasks import Task
from lab.paper.experiment import Choice, Experiment
from lab.paper.page import average, beside, percent, stand_in_blocks
from lab.paper.plan import Trials, names_of, recipe_task, recipe_trial, run_plan, stand_in_task
from lab.paper.published import read_paper
from lab.paper.scores import over_seeds, paper_rows, tested

TASKS = ("pets", "cars", "cifar10", "dtd", "eurosat", "fgvc", "resisc45", "cifar100")
MODELS = ("vit-base", "vit-large")
SEEDS = (7, 77, 777, 7777, 77777)  # of the authors' scripts
METHODS = {  # in published.toml: title, method
    "linear_probe": ("linear probe", "head"),
    "full": ("full", "full"),
    "lora_r16": ("LoRA r=16", "lora:16"),
    "fourierft_3000": ("FourierFT n=3000", "fourierft:3000"),
    "fourierft_10000": ("FourierFT n=10000", "fourierft:10000"),
}
BASELINES: Trials = {  # alpha and dropout of LoRA are those of the authors' scripts; the paper names no rates
    "head": (1e-3,),
    "full": (5e-5,),
    "lora:16,lora_alpha=16,lora_dropout=0.1": (2e-3,),
}
STAND_IN: Trials = {
    "head": (1e-3,),
    "full": (3e-5, 1e-4),
    "lora:16": (3e-3,),
    "fourierft:3000": (3e-3,),
    "fourierft:10000": (3e-3,),
}


def plan(choice: Choice) -> list[Task]:
    """Every method on every data set and model; FourierFT as Table 12 sets it."""
    if choice.is_stand_in:
        return [stand_in_task(name, STAND_IN, choice) for name in choice.tasks]
    tasks = []
    for model in choice.models:
        for task in choice.tasks:
            recipe = f"images/{task}-{model}.yaml"
            trials: Trials = {**BASELINES, **recipe_trial(recipe, 3000), **recipe_trial(recipe, 10000)}
            tasks.append(recipe_task(f"{model}/{task}", recipe, trials, choice))
    return tasks


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The paper's table with ours, and the stand-in."""
    real, paper = paper_rows(rows), read_paper()["table5"]
    blocks = []
    for model in MODELS:
        lines = {}
        for key, (title, method) in METHODS.items():
            scores = [percent(over_seeds(real, f"{model}/{task}", method, mean, tested)) for task in TASKS]
            lines[title] = (paper[model][key], [*scores, average(scores)])
        blocks += [f"{model}, accuracy:", beside([*TASKS, "average"], lines, digits=2)]
    return [
        "The paper: accuracy after 10 epochs, mean of five seeds; the authors' scripts take the test score at the best "
        "epoch of the validation data.",
        *blocks,
        *stand_in_blocks(rows, "digits", "The linear probe is the head alone."),
    ]


EXPERIMENTS = (
    Experiment(
        "table5",
        "Table 5: images",
        run_plan(plan),
        page,
        names_of(plan),
        tasks=TASKS,
        models=MODELS,
        stand_ins=("digits",),
        seeds=SEEDS,
        needs="ViT base and large, and eight data sets of images",
    ),
)

"""Table 6: the Fourier basis against a random and an orthogonal one (bases.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fourierft.training.comparison.results import Row
from fourierft.training.comparison.tasks import Task
from lab.ledger import Ledger
from lab.paper.bases import BASES, bases_enabled
from lab.paper.experiment import Choice, Experiment
from lab.paper.page import beside, percent, stand_in_blocks
from lab.paper.plan import Trials, glue_recipe, names_of, recipe_task, recipe_trial, run_plan, stand_in_task
from lab.paper.published import read_paper
from lab.paper.scores import over_seeds, paper_rows

TASKS, MODELS = ("rte", "cola"), ("roberta-base", "roberta-large")
SEEDS = (0, 11111, 22222, 33333, 44444)
STAND_IN_RATES = {"movies": 1e-2, "digits": 3e-3}
OTHERS = tuple(basis for basis in BASES if basis != "fourier")


def plan(choice: Choice) -> list[Task]:
    """The Fourier basis, which is FourierFT itself, and the two others, with all else the same."""
    with bases_enabled():
        return _tasks(choice)


def _tasks(choice: Choice) -> list[Task]:
    if choice.is_stand_in:
        specs = ["fourierft:1000", *(f"fourierft:1000,basis={basis}" for basis in OTHERS)]
        trials: dict[str, Trials] = {name: dict.fromkeys(specs, (STAND_IN_RATES[name],)) for name in choice.tasks}
        return [stand_in_task(name, trials[name], choice) for name in choice.tasks]
    tasks = []
    for model in choice.models:
        for task in choice.tasks:
            recipe = glue_recipe(task, model)
            bases = recipe_trial(recipe)
            for basis in OTHERS:
                bases |= recipe_trial(recipe, None, f"basis={basis}")
            tasks.append(recipe_task(f"{model}/{task}", recipe, bases, choice))
    return tasks


def run(choice: Choice, ledger: Ledger) -> None:
    """Do the runs that are missing, with PEFT taking configs that name a basis."""
    with bases_enabled():
        run_plan(plan)(choice, ledger)


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The paper's table with ours, and the stand-ins."""
    real, paper = paper_rows(rows), read_paper()["table6"]
    lines = {}
    for model in MODELS:
        for basis in BASES:
            ours = [percent(_score(real, f"{model}/{task}", basis)) for task in TASKS]
            lines[f"{model}, {basis}"] = (paper[model][basis], ours)
    return [
        "dW = alpha * B1 F B2^T, F with n = 1000 trained entries, B1 and B2 frozen: those of the inverse Fourier "
        "transform, of normal elements, or with random orthogonal columns. RTE accuracy, CoLA Matthews correlation.",
        beside([task.upper() for task in TASKS], lines),
        "Here a coefficient moves dW by the same norm in all three bases, so that one scaling and learning rate mean "
        "the same; the paper does not say how its own are scaled.",
        *(block for task in STAND_IN_RATES for block in stand_in_blocks(rows, task)),
    ]


def _score(rows: Sequence[Row], task: str, basis: str) -> float | None:
    group = [row for row in rows if row["config"].get("basis", "fourier") == basis]
    return over_seeds(group, task, "fourierft:1000")


EXPERIMENTS = (
    Experiment(
        "table6",
        "Table 6: Fourier, random and orthogonal bases",
        run,
        page,
        names_of(plan),
        tasks=TASKS,
        models=MODELS,
        stand_ins=tuple(STAND_IN_RATES),
        seeds=SEEDS,
        needs="RoBERTa base and large, and GLUE",
    ),
)

"""Trainings of an experiment: a recipe of `fourierft train`, or a stand-in's task, with methods, rates and seeds.

They run as those of `fourierft compare` do: a row a run, none twice, progress and the time left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fourierft.training.arguments import MethodArguments
from fourierft.training.comparison.grid import run_tasks
from fourierft.training.comparison.results import Row, read_rows
from fourierft.training.comparison.tasks import RESERVED, Task, read_task
from fourierft.training.method_parser import parse_method
from fourierft.training.settings import read_config
from lab.folders import QUALITY, RECIPES
from lab.ledger import Ledger
from lab.paper.experiment import Choice

STAND_INS = Path(__file__).with_name("stand_ins")
OF_METHODS = {item.name for item in fields(MethodArguments)} - {"head_learning_rate", "target_modules"}
OF_ADAPTER = ("scaling", "random_loc_seed", "init_weights")
Trials = Mapping[str, Sequence[float]]  # method, as `fourierft compare` writes it: learning rates
Plan = Callable[[Choice], list[Task]]


def glue_recipe(task: str, model: str) -> str:
    """The recipe of a GLUE task with RoBERTa base or large."""
    return f"glue/{task}-{model.removeprefix('roberta-')}.yaml"


def recipe_task(name: str, recipe: str, trials: Trials, choice: Choice, **changes: Any) -> Task:
    """The runs of a recipe of `fourierft train`, of which the method, its learning rate and the seed are replaced.

    Args:
        recipe: its path below recipes/.
        changes: of the recipe's settings; what was chosen to override wins over them.
    """
    settings = {**read_config(RECIPES / recipe), **changes, **choice.overrides}
    kept = {key: value for key, value in settings.items() if key not in OF_METHODS and key not in RESERVED}
    task = Task(
        name=name,
        assets={},
        settings=kept,
        target_modules=kept.pop("target_modules", None),
        layers={},
        methods=(),
        learning_rates=(),
        method_learning_rates={},
        seeds=choice.seeds,
    )
    return _with_trials(task, trials)


def stand_in_task(name: str, trials: Trials, choice: Choice, **changes: Any) -> Task:
    """The runs of a stand-in, its grid replaced by these trials."""
    task = read_task(STAND_INS / f"{name}.yaml")
    changed = replace(task, settings={**task.settings, **changes, **choice.overrides}, seeds=choice.seeds)
    return _with_trials(changed, trials)


def _with_trials(task: Task, trials: Trials) -> Task:
    methods = tuple(parse_method(spec, task.target_modules) for spec in trials)
    rates = {spec: tuple(rates) for spec, rates in trials.items()}
    return replace(task, methods=methods, learning_rates=next(iter(rates.values())), method_learning_rates=rates)


def recipe_trial(recipe: str, n_frequency: int | None = None, *extras: str) -> dict[str, tuple[float]]:
    """FourierFT as a recipe sets it, which is as the paper does: its alpha, a normal start, seed 2024, its rate.

    Args:
        recipe: its path below recipes/.
        n_frequency: in place of the recipe's.
        extras: further fields of the adapter's config, as key=value.
    """
    settings = read_config(RECIPES / recipe)
    shown = {name: json.dumps(settings[name]) if name != "scaling" else settings[name] for name in OF_ADAPTER}
    fixed = [f"{name}={value}" for name, value in shown.items()]
    spec = ",".join([f"fourierft:{n_frequency or settings['n_frequency']}", *fixed, *extras])
    return {spec: (settings["learning_rate"],)}


def run_plan(plan: Plan) -> Callable[[Choice, Ledger], None]:
    """What makes the missing rows of a plan. Stand-ins take rows over that `fourierft compare` left in docs/quality."""

    def run(choice: Choice, ledger: Ledger) -> None:
        known: list[Row] = []
        if choice.is_stand_in:
            known = [
                {**row, "from": f"docs/quality/{name}"} for name in choice.tasks for row in read_rows(QUALITY / name)
            ]
        run_tasks(
            plan(choice),
            ledger.file,
            known=known,
            stamp=ledger.stamp,
            max_runs=choice.max_runs,
            tell=ledger.tell,
        )

    return run


def names_of(plan: Plan) -> Callable[[Choice], list[str]]:
    """A line for each run of a plan."""

    def names(choice: Choice) -> list[str]:
        return [
            f"{task.name}: {run.method.title}, learning rate {run.learning_rate:g}, seed {run.seed}"
            for task in plan(choice)
            for run in task.runs()
        ]

    return names

"""Figure 6: accuracy, F1 and training loss by epoch, LoRA r=1 against FourierFT of as many numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.tables import markdown_table
from fourierft.training.comparison.plots import COLOURS
from fourierft.training.comparison.results import Row
from fourierft.training.comparison.tasks import Task
from lab.paper.experiment import Choice, Experiment
from lab.paper.page import STAND_INS
from lab.paper.plan import glue_recipe, names_of, recipe_task, recipe_trial, run_plan, stand_in_task
from lab.paper.scores import paper_rows, stand_in_rows

TASK, MODEL, EPOCHS, COUNT = "mrpc", "roberta-base", 120, 1536
LORA_RATE = 4e-4  # of MRPC in the paper of LoRA; this one names none
STAND_IN_TRIALS = {"lora:1": (3e-3,), "fourierft:768": (1e-2,)}  # 9,216 numbers each
STAND_IN_EPOCHS, POINTS = 4, 8
PANELS = (("accuracy", "accuracy"), ("f1", "F1"), ("loss", "training loss"))


def plan(choice: Choice) -> list[Task]:
    """Both methods, evaluated often."""
    if choice.is_stand_in:
        changes = {"num_train_epochs": STAND_IN_EPOCHS, "eval_steps": 1 / POINTS, "logging_steps": 1 / (4 * POINTS)}
        return [stand_in_task(name, STAND_IN_TRIALS, choice, **changes) for name in choice.tasks]
    trials = {"lora:1": (LORA_RATE,), **recipe_trial(glue_recipe(TASK, MODEL), COUNT)}
    changes = {"num_train_epochs": EPOCHS, "load_best_model_at_end": False}
    return [
        recipe_task(f"{MODEL}/{task}", glue_recipe(task, MODEL), trials, choice, **changes) for task in choice.tasks
    ]


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The curves, and where they end."""
    blocks = [
        "The paper's claim: with as many numbers FourierFT is ahead of LoRA in accuracy, F1 and training loss, all "
        f"through {EPOCHS} epochs of MRPC. It draws curves and prints no numbers.",
    ]
    real = paper_rows(rows)
    if real:
        blocks += [table(real), f"![training curves]({draw(real, folder / 'fig6.png').name})"]
    for task in EXPERIMENTS[0].stand_ins:
        group = stand_in_rows(rows, task)
        if group:
            plot = draw(group, folder / f"fig6-{task}.png")
            seeds = sorted({row["seed"] for row in group})
            blocks += [
                f"## Stand-in: {task}",
                f"{STAND_INS[task]}: {STAND_IN_EPOCHS} epochs, evaluated {POINTS} times, seeds "
                f"{', '.join(map(str, seeds))}; each method at the learning rate that is best for it in Figure 4's "
                "stand-in or next to it.",
                table(group),
                f"![training curves, {task}]({plot.name})",
            ]
    return blocks


def methods_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what a person calls their method."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["title"].partition(",")[0], []).append(row)
    return found


def curve(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """(step, mean over the rows) of a metric, or of the training loss."""
    curves = [row["loss_curve"] if name == "loss" else row["eval_curves"].get(name, []) for row in rows]
    return [(points[0][0], mean(value for _, value in points)) for points in zip(*curves, strict=False)]


def table(rows: Sequence[Row]) -> str:
    """The best and the last value of each curve."""
    lines: list[Sequence[str]] = [
        ("method", "trained", "learning rate", "best accuracy", "last", "best F1", "last", "last training loss", "runs")
    ]
    for title, group in methods_of(rows).items():
        values: list[str] = []
        for name in ("accuracy", "f1"):
            points = [value for _, value in curve(group, name)]
            values += [f"{max(points):.4f}", f"{points[-1]:.4f}"] if points else ["-", "-"]
        loss = f"{curve(group, 'loss')[-1][1]:.4f}"
        first = group[0]
        trained, rate = f"{first['parameters']['adapter']:,}", f"{first['learning_rate']:g}"
        lines.append((title, trained, rate, *values, loss, str(len(group))))
    return markdown_table(lines)


def draw(rows: Sequence[Row], file: Path) -> Path:
    """Three panels, as in the paper."""
    figure = new_figure(12, 3.2)
    for axes, (name, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for title, group in methods_of(rows).items():
            points: Any = curve(group, name)
            if points:
                axes.plot(*zip(*points, strict=True), color=COLOURS[group[0]["family"]], label=title)
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    save_figure(figure, file)
    return file


EXPERIMENTS = (
    Experiment(
        "fig6",
        "Figure 6: training curves at equal size",
        run_plan(plan),
        page,
        names_of(plan),
        tasks=(TASK,),
        models=(MODEL,),
        stand_ins=("movies",),
        seeds=(0,),
        needs="RoBERTa base and GLUE",
    ),
)

"""Figure 5: does it help to draw the entries from one band of frequencies?"""

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
from lab.paper.plan import Trials, glue_recipe, names_of, recipe_task, recipe_trial, run_plan, stand_in_task
from lab.paper.scores import best_epoch, paper_rows, stand_in_rows

TASKS, MODEL = ("rte", "mrpc", "stsb", "cola"), "roberta-base"
CENTERS, WIDTH = (0, 100, 200, 350, 480), 200
STAND_IN_CENTERS, STAND_IN_WIDTH, STAND_IN_RATE = (0, 50, 100, 175, 240), 100, 1e-2  # half of each: 384 wide, not 768
SEEDS = (0, 11111, 22222, 33333, 44444)


def band(center: float, width: float) -> tuple[str, ...]:
    """Fields of the adapter's config that draw its entries from a band."""
    return ("entries=bandpass", f"center={center:g}", f"width={width:g}")


def plan(choice: Choice) -> list[Task]:
    """Every centre, and no bias, with all else as in Table 2."""
    if choice.is_stand_in:
        bands = [",".join(["fourierft:1000", *band(center, STAND_IN_WIDTH)]) for center in STAND_IN_CENTERS]
        stand_in: Trials = dict.fromkeys(["fourierft:1000", *bands], (STAND_IN_RATE,))
        return [stand_in_task(name, stand_in, choice) for name in choice.tasks]
    tasks = []
    for task in choice.tasks:
        recipe = glue_recipe(task, MODEL)
        trials = recipe_trial(recipe)
        for center in CENTERS:
            trials |= recipe_trial(recipe, None, *band(center, WIDTH))
        tasks.append(recipe_task(f"{MODEL}/{task}", recipe, trials, choice))
    return tasks


def by_center(rows: Sequence[Row]) -> dict[float | None, list[float]]:
    """Best-epoch scores by centre, no bias under None, centres rising; runs that diverged are left out."""
    found: dict[float | None, list[float]] = {}
    for row in sorted(rows, key=lambda row: _center(row) or 0.0):
        score = best_epoch(row)
        if score is not None:
            found.setdefault(_center(row), []).append(score)
    return found


def _center(row: Row) -> float | None:
    center = row["config"].get("center")
    return None if center is None else float(center)


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The plots of what was run, and a table of each."""
    blocks = [
        "The paper's claims: no bias is better than most centres, and on every task some centre is better than no "
        "bias. It draws curves and prints no numbers. Its runs are those of Table 2 with the entries drawn from a band "
        f"of W = {WIDTH} around fc.",
    ]
    real = {task: [row for row in paper_rows(rows) if row["task"] == f"{MODEL}/{task}"] for task in TASKS}
    if any(real.values()):
        blocks += [f"![score against fc]({draw(real, folder / 'fig5.png').name})"]
        blocks += [text for task, group in real.items() if group for text in (f"{task}:", table(group))]
    for task in EXPERIMENTS[0].stand_ins:
        group = stand_in_rows(rows, task)
        if group:
            plot = draw({task: group}, folder / f"fig5-{task}.png")
            seeds = sorted({row["seed"] for row in group})
            blocks += [
                f"## Stand-in: {task}",
                f"{STAND_INS[task]}: {group[0]['metric']} of the best evaluation, n = 1000, learning rate "
                f"{STAND_IN_RATE:g}, seeds {', '.join(map(str, seeds))}. The layers are 384 wide where RoBERTa's are "
                f"768, so fc and W = {STAND_IN_WIDTH} are half of the paper's.",
                table(group),
                f"![score against fc, {task}]({plot.name})",
            ]
    return blocks


def table(rows: Sequence[Row]) -> str:
    """A line a centre."""
    lines = [("fc", rows[0]["metric"], "lowest", "highest", "runs")]
    for center, scores in by_center(rows).items():
        name = "no bias" if center is None else f"{center:g}"
        lines.append((name, f"{mean(scores):.4f}", f"{min(scores):.4f}", f"{max(scores):.4f}", str(len(scores))))
    return markdown_table(lines)


def draw(groups: dict[str, Any], file: Path) -> Path:
    """A panel a task: score against fc, and a line across for no bias."""
    shown = {task: by_center(rows) for task, rows in groups.items() if rows}
    figure = new_figure(4 * len(shown), 3.2)
    for axes, (task, scores) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        points = [(center, mean(values)) for center, values in scores.items() if center is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", color=COLOURS["fourierft"])
        if None in scores:
            axes.axhline(mean(scores[None]), color=COLOURS["head"], linestyle="--", label="no bias")
            axes.legend(frameon=False)
        axes.set(title=task, xlabel="fc", ylabel=groups[task][0]["metric"])
        axes.grid(alpha=0.25)
    save_figure(figure, file)
    return file


EXPERIMENTS = (
    Experiment(
        "fig5",
        "Figure 5: frequency bias",
        run_plan(plan),
        page,
        names_of(plan),
        tasks=TASKS,
        models=(MODEL,),
        stand_ins=("movies",),
        seeds=SEEDS,
        needs="RoBERTa base and GLUE",
    ),
)

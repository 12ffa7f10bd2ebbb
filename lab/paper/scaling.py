"""Figure 4: score against trained parameters a layer, LoRA's ranks against FourierFT's n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierft.adapters.figure import new_figure, save_figure, use_log_scale
from fourierft.tables import markdown_table
from fourierft.training.comparison.plots import COLOURS, POINTS
from fourierft.training.comparison.results import Row, summarize
from fourierft.training.comparison.tasks import Task
from lab.paper.experiment import Choice, Experiment
from lab.paper.page import percent, stand_in_blocks
from lab.paper.plan import Trials, glue_recipe, names_of, recipe_task, run_plan, stand_in_task
from lab.paper.scores import over_seeds, paper_rows, stand_in_rows

TASKS, MODEL = ("mrpc", "cola", "rte", "stsb", "sst2", "qqp"), "roberta-base"
RANKS, COUNTS = (1, 2, 4, 6, 8, 15), (50, 100, 200, 1000, 6144, 12288)
RATES: dict[str, tuple[float, ...]] = {"lora": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), "fourierft": (1e-3, 3e-3, 1e-2, 3e-2)}
STAND_IN_RATES: dict[str, Mapping[str, Sequence[float]]] = {
    "movies": {"lora": (3e-3,), "fourierft": (3e-3, 1e-2)},
    "digits": {"lora": (3e-3,), "fourierft": (3e-3,)},
}
STAND_IN_SIZES = {"lora": (1, 2, 8), "fourierft": (50, 200, 1000, 6144)}
LAYERS = {"roberta-base": 24, "movies": 12, "digits": 24}


def trials(sizes: Mapping[str, Sequence[int]], rates: Mapping[str, Sequence[float]]) -> Trials:
    """Every size of both methods, each at all its rates."""
    return {f"{method}:{size}": rates[method] for method in sizes for size in sizes[method]}


def plan(choice: Choice) -> list[Task]:
    """All sizes of both methods on every task. A rate and a scaling act as one product under Adam: rates alone go."""
    if choice.is_stand_in:
        return [stand_in_task(name, trials(STAND_IN_SIZES, STAND_IN_RATES[name]), choice) for name in choice.tasks]
    sizes = {"lora": RANKS, "fourierft": COUNTS}
    return [
        recipe_task(f"{MODEL}/{task}", glue_recipe(task, MODEL), trials(sizes, RATES), choice) for task in choice.tasks
    ]


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The plots of what was run, and a table."""
    blocks = [
        "The paper's claims: FourierFT is ahead at equal size, r=4 against n=6144 and r=8 against n=12288; n=50 is "
        "near or above r=1, 31 times its size; more n helps steadily, more rank does not. The paper draws curves and "
        "prints no numbers. It tunes learning rate and scaling in 30 trials; from zeros and with Adam the two act as "
        f'one product, so the command goes over rates: LoRA {_list(RATES["lora"])}, FourierFT (`scaling="auto"`) '
        f"{_list(RATES['fourierft'])}.",
    ]
    real = paper_rows(rows)
    if real:
        plots = [_panel(real, f"{MODEL}/{task}") for task in TASKS]
        blocks += [
            f"![score against parameters]({draw(plots, folder / 'fig4.png').name})",
            markdown_table(_lines(real)),
        ]
    for task in (name for name in LAYERS if name != MODEL):
        group = stand_in_rows(rows, task)
        if group:
            plot = draw([_panel(group, task)], folder / f"fig4-{task}.png")
            blocks += [*stand_in_blocks(rows, task), f"![score against parameters, {task}]({plot.name})"]
    return blocks


def _list(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["method", *TASKS]]
    for method, sizes in (("lora", RANKS), ("fourierft", COUNTS)):
        for size in sizes:
            scores = [percent(over_seeds(rows, f"{MODEL}/{task}", f"{method}:{size}")) for task in TASKS]
            lines.append([f"{method} {size}", *("-" if score is None else f"{score:.1f}" for score in scores)])
    return lines


def _panel(rows: Sequence[Row], task: str) -> dict[str, Any]:
    """Title, metric and points (parameters a layer, score) of one panel."""
    group = [row for row in rows if row["task"] == task]
    layers = LAYERS.get(task, LAYERS[MODEL])
    points: dict[str, list[tuple[float, float]]] = {"lora": [], "fourierft": []}
    for one in summarize(group):
        if one.family in points and one.score is not None:
            points[one.family].append((one.adapter / layers, one.score))
    metric = group[0]["metric"] if group else ""
    return {"title": task, "metric": metric, "points": {name: sorted(some) for name, some in points.items()}}


def draw(panels: Sequence[dict[str, Any]], file: Path) -> Path:
    """A panel a task: score against parameters a layer, a line a method."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(4.5 * columns, 3.2 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, panel in zip(grid, panels, strict=False):
        for method, title in (("lora", "LoRA"), ("fourierft", "FourierFT")):
            if panel["points"][method]:
                look = {"color": COLOURS[method], "marker": POINTS[method]}
                axes.plot(*zip(*panel["points"][method], strict=True), **look, label=title)
        use_log_scale(axes)
        axes.set(title=panel["title"], xlabel="trained parameters a layer", ylabel=panel["metric"])
        axes.grid(alpha=0.25)
        if axes.lines:
            axes.legend(frameon=False)
    save_figure(figure, file)
    return file


EXPERIMENTS = (
    Experiment(
        "fig4",
        "Figure 4: score against size",
        run_plan(plan),
        page,
        names_of(plan),
        tasks=TASKS,
        models=(MODEL,),
        stand_ins=("movies", "digits"),
        seeds=(0,),
        needs="RoBERTa base and GLUE",
    ),
)

"""The page of the reinforcement runs: a table, reward against numbers, reward by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from fourierft.adapters.figure import new_figure, save_figure
from fourierft.training.comparison.plots import COLOURS, MARKERS, STYLES
from fourierft.training.comparison.results import Row, by_method, by_rate
from lab import pages
from lab.ledger import devices_of, versions_of

BEFORE = "untrained"
LAST = 8  # steps whose mean reward tells one learning rate from another

COLUMNS = ("method", "numbers", "best rate", "reward, last 8 steps", "reward held out", "right alone, held out")
INTRODUCTION = """\
SmolLM2-135M-Instruct, trained with trl's `GRPOTrainer` to answer sums of two digits with the number alone. The reward
is checked by a program: .2 if the answer begins with a number, .3 more if nothing follows, .5 more if the number is
right. Every linear layer has an adapter, FourierFT at `scaling="auto"` or LoRA with alpha 16. Made by
`python -m lab trials reinforcement`."""
LEGEND = """\
- best rate: the learning rate with the highest mean reward over the last 8 steps of training
- held out: reward of sampled answers to sums that were not trained on; right alone: the share of these answers that is
  the right number and nothing else"""


def last_reward(row: Row) -> float:
    """The mean reward of a run's last steps."""
    return mean(reward for _, reward in row["curve"][-LAST:])


def best_runs(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The runs of each trained method at the best of the rates that most seeds were run at; fewest numbers first."""
    best = {}
    for method, group in by_method(sorted(rows, key=lambda row: row["parameters"])).items():
        if method != BEFORE:
            rates = by_rate(group)
            most = max(map(len, rates.values()))
            best[method] = max(
                (some for some in rates.values() if len(some) == most), key=lambda some: mean(map(last_reward, some))
            )
    return best


def table_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Headings, and a row a method, as text."""
    cells: list[tuple[str, ...]] = [COLUMNS]
    before = [row for row in rows if row["method"] == BEFORE]
    if before:
        cells.append((BEFORE, "0", "-", "-", *_held_out(before)))
    for method, runs in best_runs(rows).items():
        told = (f"{runs[0]['parameters']:,}", f"{runs[0]['learning_rate']:g}", f"{mean(map(last_reward, runs)):.3f}")
        cells.append((title(method), *told, *_held_out(runs)))
    return cells


def rate_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Headings, and the reward held out of every method at every rate, as text."""
    rates = sorted({row["learning_rate"] for row in rows if row["method"] != BEFORE})
    cells = [("reward held out", *(f"{rate:g}" for rate in rates))]
    for method in best_runs(rows):
        groups = by_rate([row for row in rows if row["method"] == method])
        found = (f"{mean(row['reward'] for row in groups[rate]):.3f}" if rate in groups else "-" for rate in rates)
        cells.append((title(method), *found))
    return cells


def title(method: str) -> str:
    """A method for people."""
    family, _, size = method.partition(":")
    return f"FourierFT n={size}" if family == "fourierft" else f"LoRA r={size}"


def _held_out(runs: Sequence[Row]) -> tuple[str, str]:
    return f"{mean(row['reward'] for row in runs):.3f}", f"{mean(row['right'] for row in runs):.0%}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Reward held out against trained numbers, and reward by step, of every method at its best rate."""
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    for place, (method, runs) in enumerate(best_runs(rows).items()):
        style: dict[str, Any] = {"color": COLOURS[method.partition(":")[0]], "marker": MARKERS[place % len(MARKERS)]}
        left.plot(runs[0]["parameters"], mean(row["reward"] for row in runs), **style, label=title(method))
        steps = [step for step, _ in runs[0]["curve"]]
        means = [mean(found) for found in zip(*([reward for _, reward in row["curve"]] for row in runs), strict=True)]
        smooth = [mean(means[max(0, end - 4) : end]) for end in range(1, len(means) + 1)]
        right.plot(steps, smooth, color=style["color"], linestyle=STYLES[place % len(STYLES)], label=title(method))
    before = [row["reward"] for row in rows if row["method"] == BEFORE]
    if before:
        left.axhline(mean(before), color=COLOURS["head"], linestyle=":", label=BEFORE)
    left.set(xscale="log", ylim=(0, 1), xlabel="trained numbers", ylabel="reward of sums held out")
    right.set(ylim=(0, 1), xlabel="step", ylabel="reward in training, mean of 4 steps")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, file)


def write_page(rows: Sequence[Row], directory: Path) -> Path:
    """Write summary.md and the plot it shows.

    Args:
        rows: of runs; some are of trained methods.
        directory: which is there.

    Returns: the page.
    """
    draw(rows, directory / "reward.png")
    versions = versions_of([{"versions": {**row["versions"], "trl": row["trl"]}} for row in rows])
    minutes, seeds = sum(row["seconds"] for row in rows) / 60, sorted({row["seed"] for row in rows})
    settings = rows[-1]["settings"]
    blocks = [
        "# Reinforcement with few numbers",
        INTRODUCTION,
        table_rows(rows),
        LEGEND,
        "![reward against numbers, and by step](reward.png)",
        rate_rows(rows),
        f"{len(rows)} runs of {settings['max_steps']} steps, {minutes:.0f} minutes, seed {', '.join(map(str, seeds))}; "
        f"a step has {settings['per_device_train_batch_size']} answers, {settings['num_generations']} to a sum, what "
        f"is held out {rows[0]['answers']}; {versions}; device: "
        f"{devices_of(rows)}.",
    ]
    return pages.write_page(directory / "summary.md", blocks)

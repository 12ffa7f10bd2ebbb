"""Try changes of FourierFT in its best form on the tasks of `fourierft compare`, and set them beside it.

    python -m lab trials tried                              everything that has no row yet
    python -m lab trials tried --tasks digits --variants factored gain --learning_rates 1e-3
    python -m lab trials tried --page                       only make the page again

Each run adds a line to lab/trials/results/tried.jsonl and is not repeated. Writes docs/quality/tried.md.
The rows to compare with are those of `fourierft compare`, in docs/quality/TASK/runs.jsonl. About 15 runs a task, of one
to two minutes each on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets

from fourierft.training.comparison.grid import run_tasks
from fourierft.training.comparison.results import read_rows
from fourierft.training.comparison.tasks import check_seeds
from fourierft.training.output import read_json_lines
from lab.folders import QUALITY
from lab.trials.page import Baseline, write_page
from lab.trials.variants import BEST_FORM, VARIANTS

RESULTS = Path(__file__).with_name("results") / "tried.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", nargs="+", choices=BEST_FORM, default=list(BEST_FORM), help="(default: all)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="(default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    parser.add_argument("--learning_rates", nargs="+", type=float, metavar="LR", help="(default: each variant's own)")
    parser.add_argument("--page", action="store_true", help="run nothing, only make the page again")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, write the page.

    Raises: ConfigError, if a choice is wrong. DataError, if there is nothing to compare with.
    """
    datasets.disable_progress_bars()
    known = {name: read_rows(QUALITY / name) for name in BEST_FORM}
    bases = {name: Baseline(name, rows) for name, rows in known.items()}
    if not arguments.page:
        grid = check_seeds(arguments.seeds), arguments.learning_rates
        run_variants(arguments.variants, arguments.tasks, *grid, RESULTS)
    print(f"written to {write_page(read_json_lines(RESULTS), bases, QUALITY)}")
    return 0


def run_variants(
    variants: Sequence[str], tasks: Sequence[str], seeds: tuple[int, ...], rates: Sequence[float] | None, file: Path
) -> None:
    """Do the runs that are missing, a row each; see `run_tasks`.

    Args:
        rates: learning rates; each variant's own if None.
    """
    for number, name in enumerate(variants, start=1):
        variant = VARIANTS[name]
        print(f"{variant.title} ({number} of {len(variants)})", flush=True)
        with variant.context():
            chosen = [variant.task(task, seeds, rates) for task in tasks]
            run_tasks(chosen, file, stamp={"variant": name}, tell=lambda line: print(line, flush=True))

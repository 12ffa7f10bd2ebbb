"""Measure fourierft beside the frozen base, stock PEFT, LoRA and RoAd, on this machine.

Rounds interleave the contenders, every result is first compared with the truth, and each row is appended to
lab/bench/results/SUITE.jsonl. A row that the results already hold for this state of the code is not measured again,
unless --fresh.

  python -m lab bench --list
  python -m lab bench training_step --match roberta --contenders ours lora-8
  python -m lab bench layer --grid full
  python -m lab bench --page
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fourierft.errors import ConfigError
from lab.folders import BENCH_RESULTS, DOCS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="suites to run; all by default")
    parser.add_argument(
        "--list", action="store_true", help="print the suites, or the cases of the named ones, and stop"
    )
    parser.add_argument(
        "--page", action="store_true", help="run nothing; make docs/performance.md and its plots from the results"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved rounds, at least 5, smoke 1 (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda is timed by events (default: %(default)s)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the base (default: %(default)s)",
    )
    parser.add_argument(
        "--grid",
        choices=("smoke", "small", "full"),
        default="small",
        help="smoke: tiny shapes, which only show that all works (default: %(default)s)",
    )
    parser.add_argument("--match", default="", metavar="TEXT", help="only cases whose name holds TEXT")
    parser.add_argument("--contenders", nargs="+", default=[], metavar="NAME", help="only these, beside the base")
    parser.add_argument(
        "--fresh", action="store_true", help="measure again what the results already hold for this code"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="tell of a case that fails, run the others, and exit with 1"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the results (default: lab/bench/results; none for smoke)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run suites, list them, or make the page.

    Raises: DataError, if there is no checkout. ConfigError, if a choice is out of range.
    """
    fewest = 1 if arguments.grid == "smoke" else 5
    if arguments.rounds < fewest:
        raise ConfigError(f"--rounds {arguments.rounds} is too few for percentiles; use at least {fewest}")
    if arguments.threads < 1:
        raise ConfigError(f"--threads {arguments.threads} is not positive; use at least 1")
    from fourierft.training.output import check_directory

    results = arguments.output or BENCH_RESULTS
    if arguments.page:
        from lab.bench.page import write_page

        return _told(write_page(results, DOCS))
    from lab.bench.harness import Settings

    settings = Settings(
        rounds=arguments.rounds,
        threads=arguments.threads,
        device=arguments.device,
        dtype=arguments.dtype,
        grid=arguments.grid,
        only=tuple(arguments.contenders),
        match=arguments.match,
        fresh=arguments.fresh,
        keep_going=arguments.keep_going,
    )
    from lab.bench.run import list_cases, run_suites

    if arguments.list:
        print(list_cases(arguments.suites, settings))
        return 0
    output = None if arguments.grid == "smoke" and arguments.output is None else results
    if output is not None:
        check_directory(output)
    count, failed = run_suites(arguments.suites, settings, output)
    told = _told([f"{count} rows, none kept" if output is None else f"{count} rows in {output}"])
    return 1 if failed else told


def _told(lines: list[str]) -> int:
    for line in lines:
        print(line)
    return 0

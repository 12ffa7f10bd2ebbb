"""The table of the server: exactness, throughput, what it bears.

    python -m lab bench serving exact        every answer against stock PEFT alone, token for token
    python -m lab bench serving throughput   tokens a second: the base, a fleet, and LoRA r=8
    python -m lab bench serving burst        10,000 requests at once
    python -m lab bench serving memory       10,000 slots at the shapes of LLaMA-2 7B, counted
    python -m lab bench serving page         the tables of docs/serving.md from the results

All but `page` run in .venv-vllm. SmolLM2-135M in float32 on a CPU, adapters of q and v, n = 1000, made from their
numbers. What is measured goes into lab/bench/results/serving.jsonl at once, and the same command resumes where one
stopped. The engine computes on the cores that this process may use (`taskset -c 0,1 python -m ...`), or on those in
VLLM_CPU_OMP_THREADS_BIND.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fourierft.cli.parser import count_from
from lab.bench.serving import fleet
from lab.bench.serving.record import Record, choose_cores
from lab.folders import BENCH_RESULTS, DOCS
from lab.ledger import read_folder

PAGE = DOCS / "serving.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("exact", "throughput", "burst", "memory", "page"))
    parser.add_argument("--adapters", type=count_from(1), default=1000, help="in the store (default: %(default)s)")
    parser.add_argument("--slots", type=count_from(1), default=64, help="of one that evicts (default: %(default)s)")
    parser.add_argument("--rounds", type=count_from(1), default=2, help="of throughput (default: %(default)s)")
    parser.add_argument("--requests", type=count_from(1), default=10_000, help="of the burst (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for stores, logs and PEFT's answers (default: in the cache)")
    parser.add_argument(
        "--output", type=Path, default=BENCH_RESULTS, help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again what the results hold for this code")


def run(arguments: argparse.Namespace) -> int:
    """Measure one of them, or fill the page."""
    if arguments.what == "page":
        from lab.bench.serving.page import write_page

        write_page(read_folder(arguments.output), PAGE)
    else:
        measure(arguments)
    return 0


def measure(arguments: argparse.Namespace) -> None:
    from fourierft.training.assets import cache_root
    from fourierft.training.catalogue import SMOLLM2
    from fourierft.training.conversion import convert, convert_gguf
    from lab.bench.serving.exact import exact
    from lab.bench.serving.limits import burst, memory
    from lab.bench.serving.throughput import throughput

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    record = Record(arguments.output, choose_cores(), arguments.fresh)
    if arguments.what == "memory":
        memory(record)
        return
    model = convert(SMOLLM2, convert_gguf, "gguf")
    folder = arguments.folder or cache_root() / f"serving-{fleet.SETTINGS}"
    folder.mkdir(parents=True, exist_ok=True)
    count, slots = arguments.adapters, arguments.slots
    if arguments.what == "exact":
        exact(model, folder, count, slots, record)
    elif arguments.what == "throughput":
        throughput(model, folder, count, slots, record, arguments.rounds)
    else:
        burst(model, folder, count, slots, record, arguments.requests)

"""The adapter store under load: a fleet written, listed, fetched and loaded, and a writer killed again and again.

    python -m lab bench store                                      10,000 adapters of SmolLM2-135M's q and v, float32
    python -m lab bench store --model minilm --dtype int8 --adapters 1000000
    python -m lab bench store --adapters 0 --kills 1000            a process that writes, SIGKILLed at random moments

Every adapter is made from its number, so that what comes back can be compared. Prints a JSON object, and appends its
figures to lab/bench/results/store.jsonl.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from fourierft.cli.parser import count_from
from fourierft.format.encoding import DTYPES, encoded_bytes
from fourierft.store import AdapterStore, Layout
from lab.bench.figures import case_name, figure_rows, killed_name
from lab.bench.harness import Settings, UnequalError
from lab.folders import BENCH_RESULTS
from lab.ledger import Row, append_rows

MODELS = {  # layers, out and in by projection, n
    "smollm2-135m": (30, {"q_proj": (576, 576), "v_proj": (192, 576)}, 1000),
    "minilm": (6, {"query": (384, 384), "value": (384, 384)}, 200),
    "tiny": (2, {"query": (32, 32), "value": (32, 32)}, 40),
}
GETS = 1000
LONGEST_LIFE = 0.3  # seconds that a writer lives at most


def fleet_layout(model: str) -> Layout:
    """The layout of adapters of q and v."""
    count, projections, n = MODELS[model]
    config = {
        "peft_type": "FOURIERFT",
        "base_model_name_or_path": model,
        "n_frequency": n,
        "random_loc_seed": 777,
        "scaling": 150.0,
        "target_modules": list(projections),
    }
    return Layout.make(
        config, {f"layers.{i}.{name}": shape for i in range(count) for name, shape in projections.items()}
    )


def numbers(layout: Layout, k: int) -> torch.Tensor:
    """Coefficients of adapter k: [total n]."""
    return torch.randn(layout.total, generator=torch.Generator().manual_seed(k))


def name_of(k: int) -> str:
    return f"tenant-{k:07d}"


def measure(folder: Path, model: str, dtype: str, count: int) -> dict[str, tuple[float, str]]:
    """Write a fleet, then read it in every way; bytes on disk against the raw numbers.

    Raises: UnequalError, if what comes back is not what was written.
    """
    layout, path = fleet_layout(model), folder / "fleet.db"
    fleet = ((name_of(k), numbers(layout, k)) for k in range(count))
    made = seconds(lambda: [numbers(layout, k) for k in range(min(count, GETS))]) * count / min(count, GETS)
    with AdapterStore(path) as store:
        written = seconds(lambda: store.add_many(layout, fleet, dtype, count))
    disk = sum(file.stat().st_size for file in folder.iterdir())
    draw = random.Random(0)
    opened = [seconds(lambda: open_and_get(path, name_of(draw.randrange(count)))) for _ in range(50)]
    with AdapterStore(path, create=False) as store:
        for k in draw.choices(range(count), k=20):
            if not torch.allclose(store.get(name_of(k)).values, numbers(layout, k), atol=0.03):
                raise UnequalError(f"adapter {k} of {path} is not what was written")
        return {
            "written": (written, "s"),
            "of which the numbers were made": (made, "s"),
            "on disk": (disk, "B"),
            "on disk, times raw": (disk / (count * encoded_bytes(dtype, layout.sizes)), ""),
            "opened and one fetched, median": (1e3 * statistics.median(opened), "ms"),
            "opened and one fetched, slowest": (1e3 * max(opened), "ms"),
            **fetch_times(store, count),
            "listed": (seconds(lambda: sum(1 for _ in store.list())), "s"),
            "all loaded": (seconds(store.coefficients), "s"),
        }


def fetch_times(store: AdapterStore, count: int) -> dict[str, tuple[float, str]]:
    """Times of getting one by its name, of a store with `count` adapters."""
    draw = random.Random(1)
    store.get(name_of(0))
    fetched = sorted(seconds(lambda: store.get(name_of(draw.randrange(count)))) for _ in range(GETS))
    return {
        "one fetched, median": (1e3 * statistics.median(fetched), "ms"),
        "one fetched, p99": (1e3 * fetched[GETS * 99 // 100], "ms"),
    }


def open_and_get(path: Path, name: str) -> None:
    """What a process does that needs one adapter."""
    with AdapterStore(path, create=False) as store:
        store.get(name)


def seconds(work: Any) -> float:
    """Wall-clock time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_on(path: str, first: int, acknowledged: Connection) -> None:
    """Add adapters first, first + 1, ... one by one and say so after each, until killed."""
    torch.set_num_threads(1)
    layout = fleet_layout("tiny")
    acknowledged.send_bytes(b"start")
    with AdapterStore(path) as store:
        k = first
        while True:
            store.put(name_of(k), layout, numbers(layout, k), dtype=DTYPES[k % 3])
            acknowledged.send_bytes(str(k).encode())
            k += 1


def kill_writers(folder: Path, kills: int, seed: int = 0) -> dict[str, int]:
    """Kill a writing process at random moments, and look after each death whether the store has what it must.

    Every tenth writer makes a store of its own; the others go on with one that all share.

    Returns: counts of kills, of adapters acknowledged, of those lost or changed, of stores that could not be read.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fourierft.store"])
    draw = random.Random(seed)
    shared: list[int] = []
    counts = {"kills": kills, "acknowledged": 0, "lost": 0, "unreadable": 0}
    for kill in range(kills):
        alone = kill % 10 == 9
        path = folder / (f"store-{kill}.db" if alone else "store.db")
        found = _one_life(context, path, 100_000 * kill, draw.uniform(0, LONGEST_LIFE))
        counts["acknowledged"] += len(found)
        shared += [] if alone else found
        check_store(path, found, counts, whole=alone)
    check_store(folder / "store.db", shared, counts, whole=True)
    return counts


def _one_life(context: Any, path: Path, first: int, life: float) -> list[int]:
    receiver, sender = context.Pipe(duplex=False)
    writer = context.Process(target=write_on, args=(str(path), first, sender))
    writer.start()
    sender.close()
    receiver.recv_bytes()
    time.sleep(life)
    writer.kill()
    writer.join()
    found = list(_drain(receiver))
    receiver.close()
    writer.close()
    return found


def _drain(receiver: Connection) -> Iterator[int]:
    while True:
        try:
            yield int(receiver.recv_bytes())
        except (EOFError, OSError):
            return


def check_store(path: Path, acknowledged: list[int], counts: dict[str, int], whole: bool) -> None:
    """Count the acknowledged adapters that are not there or not as they were, and a store that is damaged."""
    layout = fleet_layout("tiny")
    with AdapterStore(path) as store:
        counts["unreadable"] += bool(whole and store.verify())
        for k in acknowledged:
            expected = numbers(layout, k)
            tolerance = {"float32": 0.0, "bfloat16": 0.02, "int8": 0.02}[DTYPES[k % 3]]
            there = name_of(k) in store
            counts["lost"] += not (there and (store.get(name_of(k)).values - expected).abs().max() <= tolerance)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapters", type=count_from(0), default=10_000, help="default: %(default)s; 0 for none")
    parser.add_argument("--model", choices=MODELS, default="smollm2-135m", help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    parser.add_argument("--kills", type=count_from(0), default=0, help="default: %(default)s")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Declare the threads, and where a store and the results go."""
    parser.add_argument("--threads", type=count_from(1), default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=BENCH_RESULTS, help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--folder", help="where the store is made and removed again (default: that of temporary files)")


def run(arguments: argparse.Namespace) -> int:
    settings = Settings(threads=arguments.threads)
    torch.set_num_threads(arguments.threads)
    found: list[Row] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.adapters:
            asked = (arguments.model, arguments.dtype, arguments.adapters)
            figures = measure(Path(folder), *asked)
            case = case_name(arguments.adapters, arguments.model, arguments.dtype)
            found += figure_rows("store", case, figures, settings, MODELS[arguments.model][2])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.kills:
            counts = {name: (count, "") for name, count in kill_writers(Path(folder), arguments.kills).items()}
            found += figure_rows("store", killed_name(arguments.kills), counts, settings, MODELS["tiny"][2])
    append_rows(arguments.output, found)
    print(json.dumps({f"{row['contender']} {row['unit']}".strip(): row["median"] for row in found}, indent=2))
    return 0

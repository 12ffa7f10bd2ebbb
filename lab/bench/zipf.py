"""More adapters than fit: batches whose rows draw them by Zipf from a store, through a bank that loads and evicts.

    python -m lab bench zipf                                       a million adapters of MiniLM's q and v, int8
    python -m lab bench zipf --adapters 20000 --capacity 1000 --batches 50

Every adapter is made from its number. In every batch one row is compared with the base whose weights hold that
adapter, rounded to int8 by hand and summed up in float64. Prints a JSON object: rows a second from all adapters, from
those that are in the bank, and of the base alone; and appends it to lab/bench/results/zipf.jsonl.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fourierft.bars import bar
from fourierft.cli.parser import count_from
from fourierft.fleet import AdapterBank, FleetModel
from fourierft.store import AdapterStore, Layout
from lab.bench.figures import case_name, figure_rows
from lab.bench.harness import Settings, relative_rms
from lab.bench.methods import merge_truth
from lab.bench.models import share
from lab.bench.stage import Stage
from lab.bench.store import add_places, fetch_times, name_of, numbers
from lab.bench.suites.fleet import make_layout
from lab.ledger import append_rows

N, ROWS, TOKENS = 200, 64, 32
TOLERANCE = 1e-4  # relative RMS of the logits


def draw_by_zipf(count: int, batches: int, seed: int) -> np.ndarray:
    """Adapters of the rows, [batches, rows]: the k-th most popular by a chance of 1 / k, in any order."""
    generator = np.random.default_rng(seed)
    sums = np.cumsum(1 / np.arange(1, count + 1))
    ranks = np.searchsorted(sums, generator.random((batches, ROWS)) * sums[-1])
    return generator.permutation(count)[np.minimum(ranks, count - 1)]


def round_to_int8(layout: Layout, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """What int8 keeps of coefficients [total n], by layer: whole multiples of 1/127 of the largest of each layer."""
    parts = values.double().split(list(layout.sizes))
    units = [part.abs().max() / 127 for part in parts]
    return {
        layer.name: ((part / unit).round() * unit).float()
        for layer, part, unit in zip(layout.layers, parts, units, strict=True)
    }


class Load:
    """A store of adapters made from their numbers, a bank over it, and a model that runs them."""

    def __init__(self, path: Path, model: str, grid: str, count: int, capacity: int) -> None:
        self.stage = Stage(model, Settings(grid=grid))
        self.stage.n = N if grid != "smoke" else 20
        self.layout, self.count = make_layout(self.stage), count
        fleet = ((name_of(k), numbers(self.layout, k)) for k in range(count))
        begin = time.perf_counter()
        with AdapterStore(path) as store:
            store.add_many(self.layout, fleet, "int8", count)
        self.build_seconds = time.perf_counter() - begin
        self.store = AdapterStore(path, create=False)
        self.bank = AdapterBank(self.store, dtype="int8", capacity=capacity)
        self.model = FleetModel(share(self.stage.base), self.bank)
        size = (ROWS, TOKENS)
        vocabulary = self.stage.base.config.vocab_size
        self.ids = torch.randint(3, vocabulary, size, generator=torch.Generator().manual_seed(6))

    def fill(self, batches: np.ndarray) -> None:
        """Load the adapters of these batches, which evict others."""
        for chosen in bar(batches.tolist(), "filling the bank", "batches"):
            self.bank.gather([name_of(k) for k in chosen])

    def run(self, batches: np.ndarray) -> tuple[float, float, int]:
        """Run batches.

        Returns: rows a second, the share of rows whose adapter was in the bank, and how many of the rows that were
            checked, one a batch, were wrong; checking is not timed.
        """
        spent, found, wrong = 0.0, 0, 0
        for turn, chosen in enumerate(bar(batches.tolist(), "measuring", "batches")):
            names = [name_of(k) for k in chosen]
            found += sum(name in self.bank for name in names)
            begin = time.perf_counter()
            logits = self.model(input_ids=self.ids, names=names).logits
            spent += time.perf_counter() - begin
            row = turn % ROWS
            wrong += relative_rms(logits[row], self.true_logits(row, chosen[row])) > TOLERANCE
        return batches.size / spent, found / batches.size, wrong

    @torch.no_grad()
    def true_logits(self, row: int, k: int) -> torch.Tensor:
        """Logits of one row under adapter k."""
        model = share(self.stage.base)
        merge_truth(model, round_to_int8(self.layout, numbers(self.layout, k)), self.stage.scaling)
        return model.eval()(input_ids=self.ids[row : row + 1]).logits[0]

    @torch.no_grad()
    def base_rows(self, batches: int) -> float:
        """Rows a second of the base alone."""
        base = share(self.stage.base).eval()
        base(input_ids=self.ids)
        begin = time.perf_counter()
        for _ in range(batches):
            base(input_ids=self.ids)
        return batches * ROWS / (time.perf_counter() - begin)


def measure(path: Path, model: str, grid: str, count: int, capacity: int, batches: int) -> dict[str, tuple[float, str]]:
    """All figures; the bank is first filled by as many batches as it takes."""
    load = Load(path, model, grid, count, capacity)
    fetched = fetch_times(load.store, count)
    load.fill(draw_by_zipf(count, max(1, 4 * capacity // ROWS), seed=1))
    speed, found, wrong = load.run(draw_by_zipf(count, batches, seed=2))
    kept = np.array([int(name.rpartition("-")[2]) for name in load.bank.names()])
    resident_speed, resident_found, resident_wrong = load.run(kept[draw_by_zipf(len(kept), batches, seed=3)])
    return {
        "built": (load.build_seconds, "s"),
        **fetched,
        "memory of the bank": (load.bank.nbytes, "B"),
        "rows by Zipf from all": (speed, "rows/s"),
        "of them in the bank": (100 * found, "%"),
        "rows by Zipf from those in the bank": (resident_speed, "rows/s"),
        "of those in the bank": (100 * resident_found, "%"),
        "rows of the base alone": (load.base_rows(min(batches, 50)), "rows/s"),
        "rows checked": (2 * batches, ""),
        "rows wrong": (wrong + resident_wrong, ""),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapters", type=count_from(1), default=1_000_000, help="in the store (default: %(default)s)")
    parser.add_argument("--capacity", type=count_from(1), default=10_000, help="of the bank (default: %(default)s)")
    parser.add_argument("--batches", type=count_from(1), default=300, help="timed, of 64 rows (default: %(default)s)")
    add_places(parser)


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "fleet.db"
        found = measure(path, "minilm", "small", arguments.adapters, arguments.capacity, arguments.batches)
    case = case_name(arguments.adapters, "minilm", "int8", arguments.capacity)
    rows = figure_rows("zipf", case, found, Settings(threads=arguments.threads), N)
    append_rows(arguments.output, rows)
    print(json.dumps({f"{row['contender']} {row['unit']}".strip(): row["median"] for row in rows}, indent=2))
    return 0

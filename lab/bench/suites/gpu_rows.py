"""Suite for a GPU: decoding at 1 to 256 rows, with one adapter and with one a row, and mixed rows in a captured graph.

The models decode a few tokens after a prompt, as in `decoding` and `fleet`. The graph holds one layer and the updates
of its rows as the engine of the server adds them: it is captured once, the rows are then given other adapters and other
inputs in the same memory, and what a replay gives has to equal what the same calls give outside of the graph.

On a CPU the suite has tiny shapes alone, and instead of a capture it is checked that one could be made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.format.layout import Layout
from fourierft.rows.slots import Slot, Slots
from fourierft.serving.batch import Place, StaticBatch
from fourierft.spectral import uniform_basis
from lab.bench.graphs import Graph
from lab.bench.harness import LAYER_TOLERANCE, Case, Contender, Settings, relative_rms
from lab.bench.methods import SEED
from lab.bench.stage import Stage
from lab.bench.suites.decoding import Decoder
from lab.bench.suites.fleet import CHECKED, Mixed
from lab.bench.truth import true_layer

TITLE = "Decoding and mixed rows on a GPU"
MODEL = "llama-2-7b, 2 layers"
ROWS = {"smoke": (1, 16), "small": (1, 16, 64, 256)}
SHAPE = {"smoke": (48, 64, 20), "small": (4096, 4096, 340)}
METHODS = ("base", "lora-8", "lora-32", "ours")


def cases(settings: Settings) -> Iterator[Case]:
    """Graphs first, for they are soon done; then the model's rows."""
    if settings.device == "cpu" and settings.grid != "smoke":
        return
    counts = ROWS["smoke" if settings.grid == "smoke" else "small"]
    for rows in counts[1:]:
        yield Recorded(rows, settings).case()
    stage = Stage(MODEL, settings, every=True)
    for rows in counts:
        name = f"{MODEL}, decoding, {rows} {'row' if rows == 1 else 'rows'}"
        yield Decoder(stage, rows, None).case(f"{name}, one adapter", METHODS)
        if rows > 1:
            yield Mixed(stage, rows).case()


class Recorded:
    """One layer whose rows, a token each, have an adapter each."""

    def __init__(self, rows: int, settings: Settings) -> None:
        self.rows, self.settings = rows, settings
        self.out_features, self.in_features, self.n = SHAPE["smoke" if settings.grid == "smoke" else "small"]
        self.place = Place("layer", (self.out_features, self.in_features), slice(0, self.in_features),
                           [(slice(0, self.out_features), slice(0, self.out_features))])  # fmt: skip

    def case(self) -> Case:
        return Case(
            name=f"{self.out_features}x{self.in_features}, n={self.n}, {self.rows} rows, {self.rows} adapters",
            shapes={"out": self.out_features, "in": self.in_features, "n": self.n, "rows": self.rows},
            contenders={
                "base": lambda: Contender(self.base, None),
                "ours": lambda: Contender(self.adapted, lambda: self.distance(self.adapted())),
                "ours-graph": self.replayed,
            },
            tolerance=LAYER_TOLERANCE,
        )

    def random(self, *size: int, seed: int) -> Tensor:
        drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        return drawn.to(self.settings.device)

    @functools.cached_property
    def weight(self) -> Tensor:
        weight = self.random(self.out_features, self.in_features, seed=0) / math.sqrt(self.in_features)
        return weight.to(self.settings.torch_dtype)

    @functools.cached_property
    def x(self) -> Tensor:
        return self.random(self.rows, self.in_features, seed=1).to(self.settings.torch_dtype)

    @functools.cached_property
    def scaling(self) -> float:
        return self.out_features * math.sqrt(2 * self.in_features / self.n)  # dW x as large as W x

    @functools.cached_property
    def slots(self) -> Slots[int]:
        """Adapters 1 to rows, with coefficients that are drawn from their number."""
        config = {"peft_type": "FOURIERFT", "n_frequency": self.n, "random_loc_seed": SEED, "scaling": self.scaling,
                  "target_modules": ["layer"]}  # fmt: skip
        layout = Layout.make(config, {"layer": (self.out_features, self.in_features)})
        slots = Slots[int]("float32", torch.device(self.settings.device), self.rows)
        values = torch.stack([self.coefficients(key).cpu() for key in range(1, self.rows + 1)])
        slots.write(range(1, self.rows + 1), layout, values)
        return slots

    def coefficients(self, key: int) -> Tensor:
        return self.random(self.n, seed=100 + key)

    @functools.cached_property
    def batch(self) -> StaticBatch:
        draws = list(self.slots.draws.values())
        batch = StaticBatch(draws, [self.place], self.rows, torch.device(self.settings.device))
        batch.fill(np.arange(1, self.rows + 1), self.find)
        return batch

    def find(self, key: int) -> Slot:
        return self.slots.find(key)

    @torch.no_grad()
    def base(self) -> Tensor:
        return F.linear(self.x, self.weight)

    @torch.no_grad()
    def adapted(self) -> Tensor:
        y = F.linear(self.x, self.weight)
        self.batch.add(self.place, self.x, y)
        return y

    def distance(self, y: Tensor, first: int = 1) -> float:
        """Of rows whose adapters are numbered from `first` on to the truth, some of them."""
        errors = []
        for row in sorted({i * (self.rows - 1) // (CHECKED - 1) for i in range(CHECKED)}):
            key = (row + first - 1) % self.rows + 1
            x = self.x[row : row + 1].double()
            entries = uniform_basis(self.out_features, self.in_features, self.n, SEED).entries
            grad = x.new_zeros(1, self.out_features)
            truth = true_layer(x, grad, self.coefficients(key), entries, self.scaling)[0]
            errors.append(relative_rms(y[row : row + 1], truth + x @ self.weight.double().T))
        return max(errors)

    def replayed(self) -> Contender:
        """The same, captured; its gate changes adapters and inputs after the capture, and puts them back."""
        graph = Graph(self.adapted, self.settings.device)

        def distance() -> float:
            given = self.x.clone()
            self.batch.fill(np.roll(np.arange(1, self.rows + 1), -1), self.find)
            self.x.copy_(self.random(self.rows, self.in_features, seed=2))
            replayed = graph.replay().clone()
            error = self.distance(replayed, first=2) if torch.equal(replayed, self.adapted()) else math.inf
            self.batch.fill(np.arange(1, self.rows + 1), self.find)
            self.x.copy_(given)
            return error

        return Contender(graph.replay, distance)

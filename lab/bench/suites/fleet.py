"""Suite: a different adapter in every row through `FleetModel`, and thousands in one bank.

Decoders feed a few tokens after a prompt, as in `decoding`; the encoder reads sentences. The truth is the model with
dW merged, one adapter after the other, for four of the rows. The bank is asked for other adapters in every
repetition.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import torch

from fourierft.fleet import AdapterBank, FleetModel
from fourierft.store import Layout
from lab.bench.harness import Case, Contender, Settings, relative_rms
from lab.bench.methods import SEED
from lab.bench.models import share
from lab.bench.stage import Stage
from lab.bench.suites.decoding import PROMPT, STEPS, Session, draw_ids

TITLE = "The fleet"
DECODERS, ENCODER = ("llama-2048", "smollm2-135m"), "minilm"
ROWS = (16, 64)
CHECKED = 4  # rows compared with the truth
BANK = {"ours-few": 10, "ours-many": 10_000}


def cases(settings: Settings) -> Iterator[Case]:
    """Mixed batches of each model, and the bank."""
    for model in (*DECODERS, ENCODER):
        stage = Stage(model, settings)
        for rows in ROWS:
            yield Mixed(stage, rows).case()
    stage = Stage("smollm2-135m", settings)
    yield Bank(stage).case()
    yield Bank(stage).memory()


class Mixed:
    """A batch of one model with an adapter of its own in every row."""

    def __init__(self, stage: Stage, rows: int) -> None:
        self.stage, self.rows, self.decodes = stage, rows, stage.architecture.head is None
        self.names = [f"a{i}" for i in range(rows)]

    def case(self) -> Case:
        """The line-up; PEFT's mixed batches, which loop over adapters, up to 16 of them."""
        what = "decoding" if self.decodes else "encoding"
        return Case(
            name=f"{self.stage.architecture.name}, {what}, {self.rows} rows, {self.rows} adapters",
            shapes={"rows": self.rows, "targets": ",".join(self.stage.targets), "n": self.stage.n},
            contenders={
                "base": lambda: Contender(self.runner(self.stage.adapted("base").eval(), {}), None),
                **({"lora-8": lambda: self.peft("lora-8")} if self.rows == ROWS[0] else {}),
                **({"ours": lambda: self.peft("ours")} if self.rows == ROWS[0] else {}),
                "ours-fleet": self.fleet,
            },
            operations=STEPS if self.decodes else 1,
        )

    def peft(self, method: str) -> Contender:
        """PEFT's own way of mixed batches, `adapter_names`."""
        model = self.stage.adapted(method, self.names)
        run = self.runner(model, {"adapter_names": self.names})
        return Contender(run, (lambda: self.distance(run())) if method == "ours" else None)

    def fleet(self) -> Contender:
        """The base under `FleetModel`."""
        layout = make_layout(self.stage)
        bank = AdapterBank()
        for seed, name in enumerate(self.names):
            bank.put(name, layout, self.stage.coefficients(seed))
        run = self.runner(FleetModel(share(self.stage.base), bank), {"names": self.names})
        return Contender(run, lambda: self.distance(run()))

    def runner(self, model: Any, named: dict[str, Any]) -> Any:
        """What is timed: decoding steps, or a forward; gives logits [rows, ...]."""
        if self.decodes:
            return Session(model, draw_ids(self.stage, self.rows), named).decode
        ids = draw_ids(self.stage, self.rows)

        @torch.no_grad()
        def encode() -> torch.Tensor:
            return model(input_ids=ids, **named).logits

        return encode

    def distance(self, logits: torch.Tensor) -> float:
        """Of the checked rows to the truth."""
        checked = sorted({i * (self.rows - 1) // (CHECKED - 1) for i in range(CHECKED)})
        ids = draw_ids(self.stage, self.rows)
        truth = torch.cat([self.true_logits(ids[row : row + 1], row) for row in checked])
        return relative_rms(logits[checked], truth)

    @torch.no_grad()
    def true_logits(self, ids: torch.Tensor, adapter: int) -> torch.Tensor:
        """Of one row, with its adapter merged."""
        logits = self.stage.merged(self.stage.coefficients(adapter))(input_ids=ids).logits
        return logits[:, PROMPT:] if self.decodes else logits


class Bank:
    """A decoding batch of 16 rows over a bank of few adapters, and of many."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.rows = ROWS[0]
        self.sizes = BANK if stage.settings.grid != "smoke" else {name: size // 10 for name, size in BANK.items()}

    def case(self) -> Case:
        """Time of a batch: other adapters each time, a step of decoding after a prompt."""
        return Case(
            name=f"smollm2-135m, decoding, {self.rows} rows of {STEPS} tokens, other adapters each time",
            shapes=self.shapes(),
            contenders={name: functools.partial(self.contender, name) for name in self.sizes},
            baseline="ours-few",
            operations=STEPS,
        )

    def memory(self) -> Case:
        return Case(
            name="smollm2-135m, memory of the bank",
            shapes=self.shapes(),
            contenders={name: functools.partial(self.measured, name) for name in self.sizes},
            unit="B",
            rounds=1,
            baseline="ours-few",
        )

    def shapes(self) -> dict[str, object]:
        """What a row tells of its shapes."""
        return {"rows": self.rows, "targets": ",".join(self.stage.targets), "n": self.stage.n}

    @functools.cached_property
    def banks(self) -> dict[str, AdapterBank]:
        """By contender; adapter i is drawn from seed i."""
        layout, made = make_layout(self.stage), {name: AdapterBank() for name in self.sizes}
        for seed in range(max(self.sizes.values())):
            values = layout.join(self.stage.coefficients(seed))
            for name, size in self.sizes.items():
                if seed < size:
                    made[name].put(f"a{seed}", layout, values)
        return made

    def contender(self, name: str) -> Contender:
        """Decoding whose rows draw their adapters anew each time."""
        size, ids = self.sizes[name], draw_ids(self.stage, self.rows)
        model = FleetModel(share(self.stage.base), self.banks[name])
        draws = torch.randint(size, (1000, self.rows), generator=torch.Generator().manual_seed(5)).tolist()
        session, turns = Session(model, ids, {"names": ["__base__"] * self.rows}), itertools.cycle(draws)

        def run() -> torch.Tensor:
            session.named = {"names": [f"a{k}" for k in next(turns)]}
            return session.decode()

        def distance() -> float:
            own = Mixed(self.stage, self.rows)
            chosen = draws[0]
            named = {"names": [f"a{k}" for k in chosen]}
            logits = Session(model, ids, named).decode()[:CHECKED]
            truth = torch.cat([own.true_logits(ids[row : row + 1], chosen[row]) for row in range(CHECKED)])
            return relative_rms(logits, truth)

        return Contender(run, distance)

    def measured(self, name: str) -> Contender:
        """Bytes of a bank, which holds what it was given if each adapter's numbers are in it."""
        bank = self.banks[name]
        return Contender(lambda: bank.nbytes, lambda: float(len(bank) != self.sizes[name]))


def make_layout(stage: Stage) -> Layout:
    """What a row of coefficients means."""
    config = {
        "peft_type": "FOURIERFT",
        "base_model_name_or_path": stage.architecture.name,
        "n_frequency": stage.n,
        "random_loc_seed": SEED,
        "scaling": stage.scaling,
        "target_modules": list(stage.targets),
    }
    layers: Any = {path: stage.base.get_submodule(path) for path in stage.paths}
    return Layout.make(config, {path: tuple(layer.weight.shape) for path, layer in layers.items()})

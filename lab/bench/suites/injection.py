"""Suite (d): putting adapters on a model (`get_peft_model`), and loading a saved one (`PeftModel.from_pretrained`).

The base is what it takes to build the model itself, on the same device: so a ratio says how much an adapter adds to
start-up. Every repetition starts cold: a fresh model, and no entries cached. Stock FourierFT shuffles all out * in
positions once a layer, so for whole LLaMAs it is measured on one block and multiplied.
"""

from __future__ import annotations

import functools
import gc
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import peft
import torch

from fourierft.spectral.draw import drawn_basis
from lab.bench.harness import Case, Contender, Settings, relative_rms
from lab.bench.methods import METHODS, SEED, config_of, spectra, targeted, tuner_of
from lab.bench.models import ARCHITECTURES, Architecture, Model, build
from lab.bench.stage import Stage

TITLE = "Injection and loading"
N_FREQUENCY = 1000
QUERY_VALUE = ("q_proj", "v_proj")
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS = {"q, v": QUERY_VALUE, "all linear": ALL_LINEAR}
REAL_BLOCKS = 2
HOURS = {"stock": "about a minute for each of 80 blocks; run --grid full to time one"}
TINY_CUT = {"num_hidden_layers": 2}


def cases(settings: Settings) -> Iterator[Case]:
    """Models on the meta device by targets, real weights, and a saved adapter."""
    for model in ("llama-2-7b", "llama-2-70b"):
        for targets in TARGETS:
            yield Injection(model, targets, "meta", settings).case()
    yield Injection("llama-2-7b", "all linear", settings.device, settings).case()
    yield loading_case("smollm2-135m", settings)


class Injection:
    """A model to build again and again, and what is put on it."""

    def __init__(self, model: str, targets: str, device: str, settings: Settings) -> None:
        self.architecture: Architecture = ARCHITECTURES[model]
        self.targets, self.device, self.settings = targets, device, settings
        self.n = 100 if settings.grid == "smoke" else N_FREQUENCY
        whole = TINY_CUT if settings.grid == "smoke" else self.architecture.settings
        self.blocks = whole["num_hidden_layers"] if device == "meta" else REAL_BLOCKS

    def case(self) -> Case:
        name = self.architecture.name
        hours = HOURS if name == "llama-2-70b" and self.settings.grid == "small" else {}
        part = "" if self.device == "meta" else f", {self.blocks} blocks"
        return Case(
            name=f"{name}{part}, {self.targets}, {'meta' if self.device == 'meta' else 'real'} device",
            shapes={"blocks": self.blocks, "targets": self.targets, "n": self.n, "device": self.device},
            contenders={m: functools.partial(self.contender, m) for m in ("base", *METHODS) if m not in hours},
            cannot=hours,
        )

    def build(self, blocks: int | None = None) -> Model:
        """A fresh model."""
        cut = {"num_hidden_layers": blocks or self.blocks}
        with torch.device(self.device):
            return build(self.architecture, self.settings.grid, **cut)

    def contender(self, method: str) -> Contender:
        if method == "base":
            return Contender(self.build, None)
        blocks = 1 if method == "stock" and self.device == "meta" else self.blocks
        fresh: list[Model] = []

        def reset() -> None:
            fresh.clear()
            start_cold()
            fresh.append(self.build(blocks))

        def inject(model: Model) -> Model:
            with tuner_of(method):
                config = config_of(method, TARGETS[self.targets], self.n, 1.0)
                return peft.get_peft_model(model, config, low_cpu_mem_usage=self.device == "meta")

        def distance() -> float:
            model = self.build(1)
            return entries_distance(inject(model), targeted(model, TARGETS[self.targets]))

        note = "" if blocks == self.blocks else f"one block, times {self.blocks}"
        error = distance if method in ("ours", "stock") else None
        return Contender(lambda: inject(fresh[0]), error, reset, note, self.blocks / blocks)


def start_cold() -> None:
    """Forget the entries of earlier repetitions."""
    drawn_basis.cache_clear()
    gc.collect()


def entries_distance(model: Model, layers: dict[str, Any]) -> float:
    """0 if the adapter's entries in the smallest adapted layer are those of the full shuffle, else infinite."""
    path = min(layers, key=lambda p: layers[p].weight.numel())
    layer = model.base_model.model.get_submodule(path)
    out_features, in_features = layer.get_base_layer().weight.shape
    basis = getattr(layer, "fourierft_basis", None)
    entries = basis["default"].entries if basis else layer.indices["default"].cpu()
    shuffled = torch.randperm(out_features * in_features, generator=torch.Generator().manual_seed(SEED))
    flat = entries[0] * in_features + entries[1]
    return 0.0 if torch.equal(flat, shuffled[: len(flat)]) else math.inf


def loading_case(name: str, settings: Settings) -> Case:
    """Loading a saved adapter onto a model that is there."""
    stage = Stage(name, settings)

    def contender(method: str) -> Contender:
        if method == "base":
            return Contender(lambda: build(stage.architecture, settings.grid), None)
        folder = tempfile.mkdtemp()
        model = stage.adapted(method)
        with tuner_of(method):
            model.save_pretrained(folder)
        return loader(stage, method, folder)

    return Case(
        name=f"{name}, loading a saved adapter",
        shapes={"targets": ",".join(stage.targets), "n": stage.n, "device": settings.device},
        contenders={method: functools.partial(contender, method) for method in ("base", *METHODS)},
    )


def loader(stage: Stage, method: str, folder: str) -> Contender:
    """Load an adapter onto a fresh copy of the stage's model; its coefficients have to be those that were saved."""
    fresh: list[Model] = []

    def reset() -> None:
        fresh.clear()
        start_cold()
        fresh.append(stage.adapted("base"))

    def load() -> Model:
        with tuner_of(method):
            return peft.PeftModel.from_pretrained(fresh[0], folder)

    def distance() -> float:
        reset()
        found, saved = spectra(load()), stage.coefficients()
        return max(relative_rms(found[path], saved[path]) for path in stage.paths)

    weakref.finalize(load, shutil.rmtree, folder)  # the folder goes with the contender
    return Contender(load, distance if method in ("ours", "stock") else None, reset)

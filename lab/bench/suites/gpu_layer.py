"""Suite for a GPU: one layer, a training step and its memory, at LLaMA-2 7B's shape with two layers and few words.

A step has 4 x 2048 tokens: query and value with n = 1000, then every linear layer with n = 340, beside LoRA and stock
FourierFT on the same layers. "ours" takes the kernel if it was faster when it was first used, as its note says;
"ours-torch" is left with torch's transforms.

On a CPU the suite has tiny shapes alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from fourierft.spectral import uniform_basis
from fourierft.spectral.kernels import kernel_of
from fourierft.spectral.triton.choice import SWITCH
from lab.bench.harness import LAYER_TOLERANCE, Case, Contender, Settings
from lab.bench.methods import SEED
from lab.bench.stage import Stage
from lab.bench.suites.layer import DIRECTIONS, Layer
from lab.bench.suites.memory import peak_resident_bytes
from lab.bench.suites.training_step import contender, training_step

TITLE = "A layer and a training step on a GPU"
MODEL = "llama-2-7b, 2 layers"
LAYERS = {"smoke": ((64, 64, 32, 50),), "small": ((4096, 4096, 8192, 340), (4096, 4096, 8192, 1000))}
METHODS = ("base", "stock", "lora-8", "lora-32", "ours", "ours-torch")
TARGETS = {"query and value": False, "every linear layer": True}


def cases(settings: Settings) -> Iterator[Case]:
    """Steps and peaks first, which tell most; then the layer alone."""
    smoke = settings.grid == "smoke"
    if settings.device == "cpu" and not smoke:
        return
    shared = Stage(MODEL, settings)
    for targets, every in TARGETS.items():
        stage = Stage(MODEL, settings, every=every, like=shared)
        steps = {method: functools.partial(step, stage, method) for method in METHODS}
        yield Case(f"{MODEL}, {targets}, step", stage.shapes(), steps)
        peaks = {method: functools.partial(peak, stage, method) for method in METHODS}
        yield Case(f"{MODEL}, {targets}, memory of a step", stage.shapes(), peaks, unit="B", rounds=1)
    for out_features, in_features, tokens, n in LAYERS["smoke" if smoke else "small"]:
        for direction in DIRECTIONS:
            layer = Layer((out_features, in_features), tokens, n, direction, settings)
            yield Case(
                name=f"{out_features}x{in_features}, {tokens} tokens, n={n}, {direction}",
                shapes={"out": out_features, "in": in_features, "tokens": tokens, "n": n, "direction": direction},
                contenders={method: functools.partial(one_layer, layer, method) for method in METHODS},
                tolerance=LAYER_TOLERANCE,
            )


def step(stage: Stage, method: str) -> Contender:
    """A method's training step."""
    return _switched(method, lambda name: contender(stage, name))


def peak(stage: Stage, method: str) -> Contender:
    """The most bytes that a step takes beside what stood on the GPU before; on a CPU, of the process."""

    def make(name: str) -> Contender:
        model = stage.adapted(name, train=True)
        run = training_step(model, stage.batch)
        distance = functools.partial(stage.distance, model) if name == "ours" else None
        return Contender(lambda: peak_bytes(run, stage.settings), distance)

    return _switched(method, make)


def one_layer(layer: Layer, method: str) -> Contender:
    """A method's layer."""
    made = _switched(method, layer.contender)
    if method != "ours":
        return made
    basis = uniform_basis(*layer.shape, layer.n, SEED)
    has_kernel = kernel_of(basis, torch.float32, layer.x.detach()) is not None
    return replace(made, note="by the kernel" if has_kernel else "by torch's transforms, as no kernel was faster")


def peak_bytes(run: Callable[[], object], settings: Settings) -> float:
    """The most bytes in use during a step after a first one."""
    run()
    if settings.device == "cpu":
        return peak_resident_bytes()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _switched(method: str, make: Callable[[str], Contender]) -> Contender:
    """A contender of ours whose GPU kernel is switched off, where its name says so."""
    if method != "ours-torch":
        return make(method)

    def without(work: Callable[[], Any]) -> Any:
        before = os.environ.get(SWITCH)
        os.environ[SWITCH] = "torch"
        try:
            return work()
        finally:
            del os.environ[SWITCH]
            if before is not None:
                os.environ[SWITCH] = before

    made = make("ours")
    assert made.error is not None
    run, error = made.run, made.error
    return replace(made, run=lambda: without(run), error=lambda: without(error))

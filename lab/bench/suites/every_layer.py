"""Suite (h): the recommended form, n = 340 on every linear layer, beside LoRA on the same layers.

Real shapes at fewer layers and with a small vocabulary, whose head would only hide what the adapters cost. Query and
value alone stand beside it, with n = 1000.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from lab.bench.harness import Case, Contender, Settings
from lab.bench.stage import Stage
from lab.bench.suites.memory import peak, saved_bytes
from lab.bench.suites.training_step import contender

TITLE = "Training step, an adapter on every linear layer"
MODELS = (
    "smollm2-135m, 2 layers",
    "qwen2.5-0.5b, 2 layers",
    "width 1024, MLP 11008, 2 layers",
    "qwen2.5-1.5b, 2 layers",
    "tinyllama, 2 layers",
    "llama-3.2-1b, 2 layers",
    "qwen2.5-7b, 1 layer",
    "llama-2-7b, 1 layer",
    "roberta-base, 2 layers",
    "vit-base, 2 layers",
)
PEAKS = (
    "smollm2-135m, 2 layers",
    "qwen2.5-0.5b, 2 layers",
    "width 1024, MLP 11008, 2 layers",
    "roberta-base, 2 layers",
)
METHODS = {"lora-8-qv": False, "ours-qv": False, "stock": True, "lora-8": True, "ours": True}  # on every layer


def cases(settings: Settings) -> Iterator[Case]:
    """Of each model the step, then what is kept for the backward pass beside the base; then peaks."""
    for name in MODELS:
        every = Stage(name, settings, every=True)
        stages = {True: every, False: Stage(name, settings, like=every)}
        on = {method: (stages[wide], method.removesuffix("-qv")) for method, wide in METHODS.items()}
        steps: dict[str, Callable[[], Contender]] = {"base": functools.partial(contender, every, "base")}
        steps |= {method: functools.partial(contender, *where) for method, where in on.items()}
        yield Case(f"{name}, step", every.shapes(), steps)
        kept = {method: functools.partial(kept_bytes, *where) for method, where in on.items()}
        yield Case(f"{name}, kept for the backward", every.shapes(), kept, unit="B", rounds=1, baseline="lora-8")
    for name in PEAKS if settings.device == "cpu" else ():
        shapes = Stage(name, settings, every=True).shapes()
        methods = ("base", *(method for method, wide in METHODS.items() if wide))
        peaks = {method: functools.partial(peak, name, method, settings, every=True) for method in methods}
        yield Case(f"{name}, peak resident size of a step", shapes, peaks, unit="B", rounds=1)


def kept_bytes(stage: Stage, method: str) -> Contender:
    """Bytes that a forward pass keeps beside those of the base."""
    model = stage.adapted(method, train=True)

    def run() -> float:
        return saved_bytes(model, stage.batch) - saved_bytes(stage.adapted("base", train=True), stage.batch)

    return Contender(run, functools.partial(stage.distance, model) if method == "ours" else None)

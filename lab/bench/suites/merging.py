"""Suite (f): merging an adapter into the weights of a model (`merge_adapter`).

The base is one copy of the adapted weights: no merge can write them faster.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from lab.bench.harness import Case, Contender, Settings, relative_rms
from lab.bench.methods import METHODS
from lab.bench.models import Model
from lab.bench.stage import Stage
from lab.bench.suites.stock import excuse_stock

TITLE = "Merging"
MODELS = ("roberta-base", "llama-2048", "smollm2-135m")


def cases(settings: Settings) -> Iterator[Case]:
    """A case a model."""
    for name in MODELS:
        stage = Stage(name, settings)
        yield Case(
            name=name,
            shapes={"targets": ",".join(stage.targets), "n": stage.n},
            contenders={method: functools.partial(contender, stage, method) for method in ("base", *METHODS)},
        )


def contender(stage: Stage, method: str) -> Contender:
    """Merge the adapter of a model that holds its adapted weights alone."""
    if method == "base":
        weights = [stage.base.get_submodule(path).weight for path in stage.paths]
        return Contender(lambda: [weight.clone() for weight in weights], None, note="copies the adapted weights")
    model = stage.adapted(method, own=stage.targets)
    merged = False

    def reset() -> None:
        nonlocal merged
        if merged:
            model.unmerge_adapter()
        merged = True

    def distance() -> float:  # on weights of its own: what stock FourierFT gets wrong it does not take back either
        fresh = stage.adapted(method, own=stage.targets)
        fresh.merge_adapter()
        return merged_distance(stage, fresh)

    if method == "stock":
        error, note = excuse_stock(distance, stage.settings)
        return Contender(model.merge_adapter, error, reset, note)
    return Contender(model.merge_adapter, distance if method == "ours" else None, reset)


@torch.no_grad()
def merged_distance(stage: Stage, model: Model) -> float:
    """Distance of the merged weights to the base's plus the true dW, over all adapted layers."""
    true = stage.merged(stage.coefficients())
    merged = [model.base_model.model.get_submodule(path).get_base_layer().weight for path in stage.paths]
    return max(relative_rms(w, true.get_submodule(p).weight) for p, w in zip(stage.paths, merged, strict=True))

"""Warnings at the first optimiser step of an adapter that is about to learn nothing.

With the scaling of stock PEFT or of the paper, coefficients need a learning rate near 3e-2; at LoRA's usual one they
barely move the model. That is how FourierFT came to score 0% in PEFT's public comparison. And layers that the model
never calls have no gradient. The optimiser alone knows the rate, and when gradients are there, so `enable` has torch
call `check_step` before the steps of any optimiser; each optimiser is looked at once.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Container
from typing import Any

from torch.optim import Optimizer

SMALL_SCALING, SMALL_RATE = 300.0, 1e-3
_watched: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()  # layers: adapters of a fixed scaling
_layers: weakref.WeakSet[Any] = weakref.WeakSet()  # all that have adapters
_looked_at: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def follow(layer: Any) -> None:
    """Look after the gradients of a `FourierFTLayer`."""
    _layers.add(layer)


def watch(layer: Any, adapter_name: str) -> None:
    """Look after an adapter of a `FourierFTLayer` whose scaling is a number of the user's."""
    _watched.setdefault(layer, set()).add(adapter_name)


def check_step(optimizer: Optimizer, args: tuple, kwargs: dict[str, Any]) -> None:
    """Warn, once an optimiser, of coefficients that will hardly move, and of those that got no gradient.

    The first are those of a scaling of at most 300 at a learning rate under 1e-3.
    """
    if not _layers or optimizer in _looked_at:
        return
    _looked_at.add(optimizer)
    # A schedule keeps its peak in `initial_lr`; in a warm-up the first step's own rate is near zero.
    rates = {id(p): float(g.get("initial_lr", g["lr"])) for g in optimizer.param_groups for p in g["params"]}
    _warn_of_silence(rates)
    for layer, names in list(_watched.items()):
        for name in names & set(layer.fourierft_coefficients):
            scaling, rate = layer.fourierft_scaling[name], rates.get(id(layer.fourierft_coefficients[name].weight))
            if rate is not None and rate < SMALL_RATE and 0 < abs(scaling) <= SMALL_SCALING:
                warnings.warn(
                    f"adapter {name!r} has scaling={scaling:g} and learning rate {rate:g}, so "
                    "it will barely change the model; use scaling='auto' of fourierft.FourierFTConfig, "
                    "or a learning rate near 3e-2",
                    stacklevel=2,
                )
                return


def _warn_of_silence(trained: Container[int]) -> None:
    """Warn of layers whose coefficients got no gradient, while those of others did; `trained` has their `id`."""
    silent, count = [], 0
    for layer in list(_layers):
        for parameter in (part.weight for part in layer.fourierft_coefficients.values()):
            if id(parameter) in trained and parameter.requires_grad:
                count += 1
                if parameter.grad is None:
                    silent.append(layer)
    if not silent or len(silent) == count:
        return
    shown = next((layer for layer in silent if layer.usage.read), silent[0])
    reason = "the model reads its weight, but does not call it" if shown.usage.read else "nothing called it so far"
    warnings.warn(
        f"{len(silent)} of {count} adapted layers got no gradient in the first step, "
        f"such as {shown.path or type(shown).__name__}: {reason}; if this continues, "
        "leave these layers out with exclude_modules, because their adapters learn "
        "nothing",
        stacklevel=3,
    )

"""Adam with one second moment a layer: all coefficients of a layer step in the proportion of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fourierft.training.families import family
from fourierft.training.trainer import HeadTrainer


class LayerAdam(Optimizer):
    """AdamW without decay, whose second moment of a vector is the mean over its elements; matrices keep their own.

    Args:
        groups: as torch's optimizers take them, with lr, betas and eps.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient, state, (beta1, beta2) = parameter.grad, self.state[parameter], group["betas"]
        assert gradient is not None
        squares = gradient.square().mean() if parameter.dim() == 1 else gradient.square()
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(squares))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].lerp_(squares, 1 - beta2)
        mean = state["mean"] / (1 - beta1 ** state["step"])
        root = (state["square"] / (1 - beta2 ** state["step"])).sqrt()
        parameter.sub_(group["lr"] * mean / (root + group["eps"]))


class LayerAdamTrainer(HeadTrainer):
    """The Trainer of `fourierft train`, with LayerAdam."""

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """LayerAdam over the groups that AdamW would have."""
        if self.optimizer is None:
            groups = super().create_optimizer(model).param_groups
            kept = ("params", "lr", "betas", "eps")
            self.optimizer = LayerAdam([{name: group[name] for name in kept} for group in groups])
        return self.optimizer


@contextmanager
def layer_adam() -> Iterator[None]:
    """`fourierft train` takes LayerAdam while this lasts."""
    before, family.HeadTrainer = family.HeadTrainer, LayerAdamTrainer  # type: ignore[misc]
    try:
        yield
    finally:
        family.HeadTrainer = before  # type: ignore[misc]

"""A batch in training: each row with the numbers of its adapter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fourierft.spectral import spectral_linear
from fourierft.training.fleet.plan import FleetPlan
from fourierft.training.tasks import IGNORED, Regression, Task


class TrainedRows:
    """Rows of a batch; gradients reach the numbers they were made from.

    Args:
        plan: of the fleet.
        numbers: [rows, width], those of its adapter for each row of the batch.
    """

    def __init__(self, plan: FleetPlan, numbers: Tensor) -> None:
        self._plan, self.count = plan, len(numbers)
        sizes = [*plan.layout.sizes, *(shape.numel() for _, shape in plan.heads.values())]
        parts = iter(numbers.split(sizes, dim=1))  # one backward for all of them
        self._coefficients = {name: next(parts) for name in plan.layers}
        self._heads = {name: next(parts).reshape(self.count, *shape) for name, (_, shape) in plan.heads.items()}
        self.layers = {*plan.layers, *(name.rpartition(".")[0] for name in plan.heads)}

    def output(self, name: str, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """y with the update of each row's adapter, or what its head gives."""
        grouped = x.reshape(self.count, -1, x.shape[-1])
        weight = self._heads.get(f"{name}.weight")
        if weight is not None:
            bias = self._heads.get(f"{name}.bias")
            own = grouped.to(weight.dtype) @ weight.transpose(1, 2)
            y = (own if bias is None else own + bias[:, None]).view(y.shape).to(y.dtype)
        if name in self._coefficients:
            planned = self._plan.layers[name]
            delta = spectral_linear(grouped, self._coefficients[name][:, None], planned.basis, planned.scaling)
            y = y + delta.view(y.shape).to(y.dtype)
        return y


def row_counts(labels: Tensor, task: Task) -> Tensor:
    """How much each row counts in a mean over rows, [rows]; labels and task as in `row_losses`."""
    return (labels[:, 1:] != IGNORED).sum(1).float() if task.counts_tokens else torch.ones(len(labels))


def row_losses(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """The losses of transformers' models, row by row, summed over tokens: [rows].

    Args:
        logits: [rows, labels], or [rows, tokens, words] of a language model.
        labels: [rows], or [rows, tokens], IGNORED where none is to be learned.
        task: what is learned.
    """
    logits = logits.float()
    if task.counts_tokens:
        return nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none").sum(1)
    if isinstance(task, Regression):
        return (logits.squeeze(-1) - labels.float()) ** 2
    return nn.functional.cross_entropy(logits, labels, reduction="none")

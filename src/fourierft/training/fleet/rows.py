"""A batch in training: each row with the numbers of its adapter."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from fourierft.rows.terms import Term, add_updates
from fourierft.spectral import spectral_linear
from fourierft.training.fleet.plan import FleetPlan


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
            term = Term(None, self._coefficients[name], planned.basis, planned.scaling)
            update = partial(spectral_linear, coefficients=term.spread(3), basis=term.basis, scaling=term.scaling)
            y = add_updates(y.reshape(self.count, -1, y.shape[-1]), grouped, [(None, update)]).view(y.shape)
        return y

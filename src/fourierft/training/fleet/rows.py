"""A batch in training: each row with the numbers of its adapter."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from fourierft.rows.terms import Term, add_updates
from fourierft.spectral import spectral_linear
from fourierft.training.fleet.trainable import TrainableRow


class TrainedRows:
    """Rows of a batch; gradients reach the numbers they were made from.

    Args:
        trainable: what an adapter is made of.
        numbers: [rows, width], those of its adapter for each row of the batch.
    """

    def __init__(self, trainable: TrainableRow, numbers: Tensor) -> None:
        self._trainable, self.count = trainable, len(numbers)
        sizes = [*trainable.layout.sizes, *(shape.numel() for _, shape in trainable.heads.values())]
        parts = iter(numbers.split(sizes, dim=1))  # one backward for all of them
        self._coefficients = {name: next(parts) for name in trainable.adapted}
        self._heads = {name: next(parts).reshape(self.count, *shape) for name, (_, shape) in trainable.heads.items()}
        self.layers = {*trainable.adapted, *(name.rpartition(".")[0] for name in trainable.heads)}

    def output(self, name: str, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """y with the update of each row's adapter, or what its head gives."""
        grouped = x.reshape(self.count, -1, x.shape[-1])
        weight = self._heads.get(f"{name}.weight")
        if weight is not None:
            bias = self._heads.get(f"{name}.bias")
            own = grouped.to(weight.dtype) @ weight.transpose(1, 2)
            y = (own if bias is None else own + bias[:, None]).view(y.shape).to(y.dtype)
        if name in self._coefficients:
            adapted = self._trainable.adapted[name]
            term = Term(None, self._coefficients[name], adapted.basis, adapted.scaling)
            update = partial(spectral_linear, coefficients=term.spread(3), basis=term.basis, scaling=term.scaling)
            y = add_updates(y.reshape(self.count, -1, y.shape[-1]), grouped, [(None, update)]).view(y.shape)
        return y

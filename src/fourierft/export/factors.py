"""A base model whose adapted layers take their adapter with the call, by operators that every runtime of ONNX has.

The update of a layer, by the cosines and sines of its entries,

    dW x = Cos_u (c * (Cos_v^T x)) - Sin_u (c * (Sin_v^T x)),        c with alpha / (out in) multiplied in,

is two products with [Cos Sin], of 2n columns, and a different c in every row costs nothing. The factors are computed in
the graph from the entries, once for all layers of one shape: they weigh nothing on disk, and a runtime folds them when
it loads the graph. Layers that read the same tensor share the first product.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ExportError
from fourierft.export.cosines import cosines
from fourierft.export.numbers import Order, Part
from fourierft.spectral import SpectralBasis


class Call:
    """What the layers of a model share while it is called.

    Attributes:
        numbers: the adapter of each row of the batch, [batch, numbers].
        factors: key of a basis -> [out, 2n] and [in, 2n].
        products: of tensors that layers read with the factors.
    """

    def __init__(self) -> None:
        self.begin(torch.empty(0, 0))

    def begin(self, numbers: Tensor) -> None:
        """Forget the last call."""
        self.numbers = numbers
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        self.products: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}


class HandedLinear(nn.Module):
    """A linear layer with an update, a weight or a bias that come with the call.

    Args:
        base: `nn.Linear` or `Conv1D`.
        name: of the layer, for messages.
        call: what it shares with the others.
        coefficients: of its update, and the basis; None if it has none.
        weight, bias: where they are among the numbers; None for the base's.
    """

    entries: Tensor

    def __init__(
        self,
        base: nn.Module,
        name: str,
        call: Call,
        coefficients: tuple[Part, SpectralBasis] | None,
        weight: Part | None,
        bias: Part | None,
    ) -> None:
        super().__init__()
        self.base, self.name, self.call, self.weight, self.bias = base, name, call, weight, bias
        self.part, self.key = None, ""
        if coefficients is not None:
            self.part, basis = coefficients
            self.key, self.shape = basis.key, (basis.out_features, basis.in_features)
            self.register_buffer("entries", basis.entries, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, in] or [batch, tokens, in] -> [batch, out] or [batch, tokens, out]."""
        numbers = self.call.numbers
        if x.shape[0] != numbers.shape[0]:  # len() would make the sizes of the graph those that it is traced with
            raise ExportError(
                f"{self.name} sees other rows than the texts of a batch, so rows cannot "
                "have different adapters there; use --form merged"
            )
        y = self._base_product(x)
        if self.part is not None:
            c = self.part.take(numbers)
            rows, columns = self._find_factors()
            product = self._find_product(x, columns) * spread(torch.cat([c, -c], dim=1), x.dim())
            y = y + product @ rows.T
        return y

    def _base_product(self, x: Tensor) -> Tensor:
        if self.weight is None and self.bias is None:
            return self.base(x)
        base: Any = self.base
        if self.weight is None:
            y = F.linear(x, base.weight.T if isinstance(base, Conv1D) else base.weight)
        else:
            weight = self.weight.take(self.call.numbers)  # [batch, out, in]
            y = x @ weight.transpose(1, 2) if x.dim() == 3 else (x[:, None] @ weight.transpose(1, 2))[:, 0]
        if self.bias is not None:
            return y + spread(self.bias.take(self.call.numbers), x.dim())
        return y if base.bias is None else y + base.bias

    def _find_factors(self) -> tuple[Tensor, Tensor]:
        if self.key not in self.call.factors:
            rows, columns = self.entries
            out, in_ = self.shape
            self.call.factors[self.key] = cosines(rows, out, torch.float32), cosines(columns, in_, torch.float32)
        return self.call.factors[self.key]

    def _find_product(self, x: Tensor, columns: Tensor) -> Tensor:
        key = (id(x), self.key)
        if key not in self.call.products:
            self.call.products[key] = x, x @ columns  # holding x, whose id then stays its own
        return self.call.products[key][1]


def spread(values: Tensor, dimensions: int) -> Tensor:
    """[batch, m] as [batch, 1, ..., m], of as many dimensions as what it is multiplied with."""
    for _ in range(dimensions - 2):
        values = values[:, None]
    return values


def hand_in(model: nn.Module, order: Order) -> Call:
    """Put layers that take their adapter with the call in the place of a model's own.

    Args:
        model: the base; it is changed.
        order: of the numbers.

    Returns: what to hand the numbers to.

    Raises: ExportError, if an adapter changes something else than linear layers.
    """
    call = Call()
    holders = dict.fromkeys([*order.layers, *(name.rpartition(".")[0] for name in order.heads)])
    for name in holders:
        base = model.get_submodule(name) if name in dict(model.named_modules()) else None
        if not isinstance(base, (nn.Linear, Conv1D)) or (isinstance(base, Conv1D) and f"{name}.weight" in order.heads):
            raise ExportError(
                f"the adapter changes {name}, of type {type(base).__name__}, but --form adapter "
                "takes only linear layers; use --form merged"
            )
        coefficients = (order.layers[name], order.bases[name]) if name in order.layers else None
        weight, bias = order.heads.get(f"{name}.weight"), order.heads.get(f"{name}.bias")
        holder, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(holder), leaf, HandedLinear(base, name, call, coefficients, weight, bias))
    return call

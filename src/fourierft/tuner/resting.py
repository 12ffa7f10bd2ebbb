"""Inference: what a layer computes from its coefficients alone is kept for as long as they rest.

Where a layer is so small that starting a kernel costs more than its product, W + dW itself is kept and one adapter
costs nothing over the base; elsewhere, and for a different adapter in every row, the factors of the entries are kept.
Taking gradients, changing a coefficient, a scaling or the base weight, and copying the layer drop what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from fourierft.spectral import PreparedUpdate
from fourierft.tuner.mixing import row_terms, summed_terms

if TYPE_CHECKING:
    from fourierft.tuner.layer import FourierFTLayer

SMALL_WEIGHT = 1 << 22  # elements up to which W + dW is kept (16 MB in float32)
_Kept = TypeVar("_Kept")


class RestingUpdates:
    """One value and the state it was computed from; a copy starts empty."""

    def __init__(self) -> None:
        self.drop()

    def __reduce__(self) -> tuple[type[RestingUpdates], tuple[()]]:
        return RestingUpdates, ()

    def drop(self) -> None:
        """Forget the value."""
        self._state: Hashable = None
        self._value: object = None
        self._sources: list[Tensor] = []

    def keep(self, key: Hashable, sources: Sequence[Tensor], compute: Callable[[], _Kept]) -> _Kept:
        """The value computed from the sources as they are now, or the last one if they and the key are the same."""
        try:
            state = (key, *[(source.data_ptr(), source._version) for source in sources])
        except RuntimeError:  # tensors made in inference mode have no version: their changes cannot be seen
            return compute()
        if self._state != state:
            self.drop()
            self._value, self._state = compute(), state
            self._sources = [source.detach() for source in sources]  # no other tensor takes their addresses
        return self._value  # type: ignore[return-value]


def rests(x: Tensor) -> bool:
    """Whether values may be kept: nothing is traced or differentiated."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or x.is_meta)


def kept_weight(layer: FourierFTLayer, names: Sequence[str], weight: Tensor, onto: bool = True) -> Tensor:
    """`adapted_weight`, computed once."""

    def compute() -> Tensor:
        return adapted_weight(layer, names, weight, onto)

    key = ("weight", onto, *_settings(layer, names))
    return layer.resting.keep(key, [weight, *_coefficients(layer, names)], compute)


def adapted_weight(layer: FourierFTLayer, names: Sequence[str], weight: Tensor, onto: bool = True) -> Tensor:
    """W + dW of all the adapters named, or dW alone if it is not to be added onto W; in the dtype of W."""
    update = reduce(torch.add, [layer.get_delta_weight(name) for name in names]).to(weight.dtype)
    return weight + update if onto else update


def prepared_sum(layer: FourierFTLayer, names: Sequence[str]) -> list[PreparedUpdate]:
    """The updates of all the adapters named, one for each draw."""

    def compute() -> list[PreparedUpdate]:
        return [PreparedUpdate(*term) for term in summed_terms(layer, names)]

    return layer.resting.keep(("sum", *_settings(layer, names)), _coefficients(layer, names), compute)


def add_rows(layer: FourierFTLayer, result: Tensor, x: Tensor, names: Sequence[str]) -> Tensor:
    """The base layer's result with the update of adapter names[i] added to row i, in the dtype of the sum."""

    def compute() -> list[tuple[Tensor | None, PreparedUpdate]]:
        return [
            (
                None if len(rows) == len(names) else torch.tensor(rows, device=coefficients.device),
                PreparedUpdate(coefficients, basis, 1.0),
            )
            for rows, coefficients, basis in row_terms(layer, names)
        ]

    known = [name for name in dict.fromkeys(names) if name in layer.fourierft_scaling]
    key = ("rows", tuple(names), *_settings(layer, known))
    for rows, update in layer.resting.keep(key, _coefficients(layer, known), compute):
        if rows is None:
            result = result + update(x)
        else:
            delta = update(x[rows])
            result = result.to(torch.promote_types(result.dtype, delta.dtype)).index_add(0, rows, delta.to(result))
    return result


def _coefficients(layer: FourierFTLayer, names: Sequence[str]) -> list[Tensor]:
    return [layer.fourierft_coefficients[name].weight for name in names]


def _settings(layer: FourierFTLayer, names: Sequence[str]) -> Iterator[Hashable]:
    for name in names:
        yield name, layer.fourierft_scaling[name], layer.fourierft_basis[name]

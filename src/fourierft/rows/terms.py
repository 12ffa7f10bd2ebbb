"""The row engine: updates of different adapters, each added to the rows of a batch that have it.

Adapters run together if their entries come from one draw: a smaller n is a prefix of a larger one, so that coefficients
are padded with zeros. Each draw is one term: its coefficients are gathered, a row each, and its update is computed for
its rows at once. Sums are in the wider of the dtypes, and rounded to that of the layer's output once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from fourierft.spectral import PreparedUpdate, SpectralBasis

_Key = TypeVar("_Key", bound=Hashable)
Columns = Sequence[tuple[slice, slice]]  # which of an update's columns stand where in an output


class Term(NamedTuple):
    """What one call of a view takes.

    Fields:
        rows: which rows of a batch, on the device of the coefficients; None for all.
        coefficients: [n], the same for all of these rows, or [rows, n].
        basis: of n entries.
        scaling: of all the coefficients.
    """

    rows: Tensor | None
    coefficients: Tensor
    basis: SpectralBasis
    scaling: float

    def spread(self, dims: int) -> Tensor:
        """The coefficients as a view of inputs with that many dimensions takes them: [n], or [rows, 1, ..., n]."""
        if self.coefficients.dim() == 1:
            return self.coefficients
        return self.coefficients.view(len(self.coefficients), *[1] * (dims - 2), self.basis.n_frequency)

    def prepared(self) -> PreparedUpdate:
        """The update, for coefficients that do not change; no gradients."""
        return PreparedUpdate(self.coefficients, self.basis, self.scaling)


def group_rows(keys: Sequence[_Key | None]) -> dict[_Key, list[int]]:
    """Key -> the rows that have it, in the order in which keys come first; rows whose key is None are in no group."""
    groups: dict[_Key, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            groups.setdefault(key, []).append(row)
    return groups


def add_updates(y: Tensor, x: Tensor, updates: Iterable[tuple[Tensor | None, Callable[[Tensor], Tensor]]]) -> Tensor:
    """y with the updates of its rows.

    Args:
        y: [rows, ..., out], a layer's output; it stays as it is.
        x: [rows, ...], the layer's input.
        updates: for each, the rows that have it, None for all, and what gives it: [rows, ...] -> [rows, ..., out].

    Returns: dtype of y.
    """
    total = y
    for rows, update in updates:
        if rows is None:
            total = total + update(x)
        else:
            delta = update(x[rows])
            total = total.to(torch.promote_types(total.dtype, delta.dtype))
            total = total.index_add(0, rows, delta.to(total.dtype))
    return total if total is y else total.to(y.dtype)


def add_into(y: Tensor, delta: Tensor, rows: slice | Tensor, columns: Columns) -> None:
    """Add an update to some rows and columns of y in place.

    Args:
        y: [all rows, all columns].
        delta: [rows, columns of the update]; it is rounded to the dtype of y.
        rows: of y, that delta has.
        columns: pairs: which of the update's columns, and where they stand in y.
    """
    delta = delta.to(y.dtype)
    for source, target in columns:
        if isinstance(rows, slice):
            y[rows, target] += delta[:, source]
        else:
            y[:, target].index_add_(0, rows, delta[:, source])

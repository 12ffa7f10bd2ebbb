"""Inference: the updates of a layer without gradients, from coefficients as they are at each call.

Coefficients and base weights are written to by ways that leave no trace (`parameter.data.copy_`, a numpy view, another
process), so nothing is kept on the strength of a tensor's version or address, and nothing of the base weight at all.
The compiled kernel reads the coefficients as it runs. Where it cannot serve, what was prepared of them on a CPU is
kept together with a copy of them, and found again if they are equal to it, number by number. On an accelerator,
comparing would wait for the device, which takes longer than preparing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from fourierft.rows.terms import Term, add_updates
from fourierft.spectral import PreparedUpdate, SpectralBasis, add_product, compiled_update, delta_weight
from fourierft.tuner.coefficients import check_present
from fourierft.tuner.mixing import RowPlan
from fourierft.tuner.terms import Terms

MOST = 4  # values and plans that a layer keeps: adapters and batches that take turns
_Kept = TypeVar("_Kept")


class _Entry(NamedTuple):
    kind: Hashable
    numbers: Tensor
    value: object


class UpdateCache:
    """What a layer keeps between calls without gradients: a few values, each with the numbers it was computed from.

    A copy starts empty. Threads may share one: an entry never changes, and the tuples of them are replaced whole.
    """

    def __init__(self) -> None:
        self.drop()

    def __reduce__(self) -> tuple[type[UpdateCache], tuple[()]]:
        return UpdateCache, ()

    def drop(self) -> None:
        self._entries: tuple[_Entry, ...] = ()
        self._plans: tuple[RowPlan, ...] = ()

    def find(self, kind: Hashable, numbers: Tensor, compute: Callable[[Tensor], _Kept]) -> _Kept:
        """compute(numbers), or what it gave for equal numbers and the same kind before."""
        if numbers.device.type != "cpu":
            return compute(numbers)
        for entry in self._entries:
            if entry.kind == kind and _equal(entry.numbers, numbers):
                return cast(_Kept, entry.value)
        own = numbers.detach().clone()
        value = compute(own)
        self._entries = (_Entry(kind, own, value), *self._entries)[:MOST]
        return value

    def plan(self, adapters: Terms, names: Sequence[str]) -> RowPlan:
        """The plan of a batch whose rows have these of a layer's adapters."""
        for plan in self._plans:
            if plan.fits(adapters, names):
                return plan
        plan = RowPlan(adapters, names)
        self._plans = (plan, *self._plans)[:MOST]
        return plan


def infer(y: Tensor, x: Tensor, terms: Iterable[Term], onto: bool, cache: UpdateCache, path: str) -> Tensor:
    """y + x dW^T for all terms, rounded to the dtype of y once.

    Args:
        y: [..., out], the base layer's output.
        x: [..., in], its input.
        terms: the updates.
        onto: whether y is no one else's, so that it may be added to in place.
        cache, path: of the layer.
    """
    updates = []
    for term in terms:
        _, coefficients, basis, scaling = term
        if term.rows is not None or not onto or not add_product(y, x, coefficients, basis, scaling):
            check_present(path, coefficients, x)
            updates.append((term.rows, _prepared(cache, term)))
    return add_updates(y, x, updates)


def kept_update(terms: Iterable[Term], in_layout: Callable[[Tensor], Tensor], cache: UpdateCache) -> Tensor:
    """The sum of updates dW in the shape of the base weight.

    Args:
        terms: the updates, of all rows.
        in_layout: gives [out, in] the shape of the base weight.
        cache: of the layer.
    """
    parts = []
    for _, coefficients, basis, scaling in terms:

        def build(numbers: Tensor, basis: SpectralBasis = basis, scaling: float = scaling) -> Tensor:
            return in_layout(delta_weight(numbers, basis, scaling))

        parts.append(cache.find(("weight", basis, scaling), coefficients, build))
    return reduce(torch.add, parts)


def _prepared(cache: UpdateCache, term: Term) -> PreparedUpdate:
    _, coefficients, basis, scaling = term

    def prepare(numbers: Tensor) -> PreparedUpdate:
        return PreparedUpdate(numbers, basis, scaling)

    dtype = torch.float64 if coefficients.dtype == torch.float64 else torch.float32
    if compiled_update(basis, dtype, coefficients.device) is not None:
        return prepare(coefficients)
    return cache.find(("tokens", basis, scaling), coefficients, prepare)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)

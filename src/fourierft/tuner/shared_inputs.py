"""One transform for the layers of a module that get the same tensor, as query, key and value do, or gate and up.

While a module runs, its adapted layers hold the input that one of them transformed last, together with the tensor
itself. The same object is the same input, unless it was written to: its version counts what torch sees, and a
fingerprint of its values the rest, such as `x.data.mul_(2)`. When the module is done, nothing is held any more.
Calls of a layer outside of its module transform for themselves, as those in a graph of `torch.compile` seem to: equal
parts of a graph become one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fourierft.rows.terms import Term
from fourierft.spectral import (
    Held,
    SpectralBasis,
    adapted_linear,
    can_hold,
    fingerprint,
    held_linear,
    hold,
)


class _Input(NamedTuple):
    x: Tensor
    version: int
    fingerprint: int
    held: Held

    def is_of(self, x: Tensor, basis: SpectralBasis) -> bool:
        """Whether a layer with this basis that gets x may take what is held."""
        same = self.x is x and self.version == x._version and basis in self.held.bases
        wants_grad = x.requires_grad and torch.is_grad_enabled()
        return same and self.held.spectrum.requires_grad == wants_grad and self.fingerprint == fingerprint(x)


class SharedInputs:
    """What the adapted layers of one module share while it runs, in each thread. A copy holds nothing.

    Args:
        bases: of all adapters of these layers, by in_features: an input is held for all of them. It must not depend on
            what runs, since a checkpointed part of a module runs again on its own. Widths that have one reader are
            left out.
    """

    def __init__(self, bases: Mapping[int, Sequence[SpectralBasis]] | None = None) -> None:
        self.bases = dict(bases or {})
        self._last: dict[int, _Input | None] = {}  # by thread in which the module runs

    def __reduce__(self) -> tuple[type[SharedInputs], tuple[Mapping[int, Sequence[SpectralBasis]]]]:
        return SharedInputs, (self.bases,)

    def begin(self, *_: Any) -> None:
        """Before the module runs."""
        if not torch.compiler.is_compiling():
            self._last[threading.get_ident()] = None

    def end(self, *_: Any) -> None:
        """After it ran, or failed."""
        if not torch.compiler.is_compiling():
            self._last.pop(threading.get_ident(), None)

    def held(self, x: Tensor, basis: SpectralBasis) -> Held:
        """The input x of a layer with this basis, as it is held, or transformed now."""
        bases = shared = self.bases.get(basis.in_features, ())
        bases = bases if basis in bases else [basis, *bases]
        if not shared or torch.compiler.is_compiling() or x.is_inference():
            return hold(x, bases)
        thread = threading.get_ident()
        if thread not in self._last:
            return hold(x, bases)
        last = self._last[thread]
        if last is not None and last.is_of(x, basis):
            return last.held
        before = x._version, fingerprint(x)
        held = hold(x, bases)
        self._last[thread] = _Input(x, *before, held)
        return held


def adapted(x: Tensor, product: tuple[Tensor, Tensor | None], term: Term, inputs: SharedInputs) -> Tensor:
    """x (W + dW)^T + bias, of a base layer that is one matrix product: [..., in] -> [..., out]."""
    _, coefficients, basis, scaling = term
    if can_hold(x, product, coefficients, basis):
        return held_linear(inputs.held(x, basis), x, *product, coefficients, basis, scaling)
    return adapted_linear(x, *product, coefficients, basis, scaling)


def held_update(x: Tensor, term: Term, inputs: SharedInputs) -> Tensor | None:
    """x dW^T, in the dtype of the coefficients: [..., in] -> [..., out]; None where inputs cannot be shared."""
    _, coefficients, basis, scaling = term
    if can_hold(x, None, coefficients, basis):
        return held_linear(inputs.held(x, basis), x, None, None, coefficients, basis, scaling)
    return None

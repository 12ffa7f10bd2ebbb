"""Spectra that are held: the bins of an input that several updates read, transformed once.

A held spectrum is opaque, float32 [tiles, bins * tile]. Only updates with the same `Holding`, of as many tokens, can
read it. Shapes: x [tokens, in], grad [tokens, out], coefficients [n], float32, on the CPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled.build import Kernel, load_kernel
from fourierft.spectral.compiled.calls import compiled_update
from fourierft.spectral.compiled.plan import Plan, entries_of, holding_of, links_of, plan_of


class HeldInput:
    """Holds of an input what the updates of some bases read.

    Args:
        kernel: from `load_kernel`.
        plan: of the bases' in_features.
        bases: of one in_features.
    """

    def __init__(self, kernel: Kernel, plan: Plan, bases: Sequence[SpectralBasis]) -> None:
        self.kernel, self.plan = kernel, plan
        self.holding = holding_of(plan, np.concatenate([basis.entries[1].numpy() for basis in bases]))
        self._count = int(self.holding.count)
        self._references = ctypes.byref(plan), ctypes.byref(self.holding)
        self._narrow_tile, self._wide_tile = 2 * kernel.narrow.lanes(), 2 * kernel.wide.lanes()

    def shape(self, tokens: int) -> tuple[int, int]:
        """Of the held spectrum of so many tokens."""
        tile = self._narrow_tile if self._is_narrow(tokens) else self._wide_tile
        return -(-tokens // tile), (self._count + 1) * tile  # the last bin tells of tokens that are not finite

    def library(self, tokens: int) -> ctypes.CDLL:
        """The build that has tiles for so many tokens: one wide tile costs as much as two or three narrow ones."""
        return self.kernel.narrow if self._is_narrow(tokens) else self.kernel.wide

    def hold(self, x: Tensor) -> Tensor:
        """The held spectrum of x."""
        x = x.contiguous()
        held = x.new_empty(self.shape(len(x)))
        self.library(len(x)).hold(*self._references, x.data_ptr(), held.data_ptr(), len(x), torch.get_num_threads())
        return held

    def release(self, held: Tensor, tokens: int, onto: Tensor | None = None) -> Tensor:
        """The transpose of `hold`: the gradient of x from that of its held spectrum, [tokens, in], plus `onto`."""
        held, y = _aligned(held), held.new_empty(tokens, self.holding.length)
        onto = None if onto is None else onto.contiguous()
        self.library(tokens).release(
            *self._references,
            held.data_ptr(),
            y.data_ptr(),
            None if onto is None else onto.data_ptr(),
            tokens,
            torch.get_num_threads(),
        )
        return y

    def _is_narrow(self, tokens: int) -> bool:
        return tokens <= 2 * self._narrow_tile


class HeldUpdate:
    """The update of one basis, of inputs that are held.

    Args:
        held: for this basis, and maybe others.
        basis: the entries.
        outer: plan of the basis' out_features.
    """

    def __init__(self, held: HeldInput, basis: SpectralBasis, outer: Plan) -> None:
        self._held, self._outer, self._n = held, outer, basis.n_frequency
        self._factor = 0.5 / (basis.out_features * basis.in_features)
        rows, columns = basis.entries.numpy()
        self._links = links_of(held.holding, outer, columns, rows)
        self._reversed = links_of(outer, held.holding, rows, columns)
        self._entries = entries_of(basis, held.holding, outer)
        self._forward = [ctypes.byref(struct) for struct in (held.holding, outer, self._links)]
        self._backward = [ctypes.byref(struct) for struct in (held.holding, outer, self._entries, self._reversed)]

    def add_product(self, y: Tensor, held: Tensor, coefficients: Tensor, scaling: float) -> None:
        """Add dW x to y [tokens, out], contiguous, in place."""
        held, coefficients = _aligned(held), coefficients.contiguous()
        self._held.library(len(y)).held_product(
            *self._forward,
            held.data_ptr(),
            coefficients.data_ptr(),
            self._factor * scaling,
            y.data_ptr(),
            len(y),
            True,
            torch.get_num_threads(),
        )

    def gradients(
        self, grad: Tensor, held: Tensor | None, coefficients: Tensor | None, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the held spectrum (empty without coefficients), and of coefficients (empty without held)."""
        threads, tokens, grad = torch.get_num_threads(), len(grad), grad.contiguous()
        held = None if held is None else _aligned(held)
        coefficients = None if coefficients is None else coefficients.contiguous()
        into = grad.new_empty(0) if coefficients is None else grad.new_empty(self._held.shape(tokens))
        sums, partial = grad.new_empty(0 if held is None else self._n), grad.new_empty(threads, self._n)
        self._held.library(tokens).held_gradients(
            *self._backward,
            grad.data_ptr(),
            None if held is None else held.data_ptr(),
            None if coefficients is None else coefficients.data_ptr(),
            self._factor * scaling,
            None if coefficients is None else into.data_ptr(),
            sums.data_ptr(),
            partial.data_ptr(),
            tokens,
            threads,
        )
        return into, sums


def fingerprint(x: Tensor) -> int:
    """A number for the values of a tensor: another one, but for a chance in 2^32, as soon as any of them differs."""
    kernel, found, x = load_kernel(), ctypes.c_uint64(), x.detach().contiguous()
    assert kernel is not None
    kernel.wide.fingerprint(x.data_ptr(), x.numel() * x.element_size(), ctypes.byref(found))
    return found.value


def held_input(bases: Sequence[SpectralBasis]) -> HeldInput:
    """What holds an input for these bases, which `is_served` says are served; made once.

    Raises: BackendError, if the kernel is wrong here.
    """
    first = bases[0]
    return first.keep(("held", *(basis.key for basis in bases)), lambda _: _input(bases))


def held_update(basis: SpectralBasis, bases: Sequence[SpectralBasis]) -> HeldUpdate:
    """The update of one of these bases; made once."""
    return basis.keep(("update", *(basis.key for basis in bases)), lambda _: _update(basis, bases))


def _input(bases: Sequence[SpectralBasis]) -> HeldInput:
    kernel, plan = load_kernel(), plan_of(bases[0].in_features)
    assert kernel is not None
    assert plan is not None
    for basis in bases:
        compiled_update(basis, torch.float32, torch.device("cpu"))  # whose results are checked
    return HeldInput(kernel, plan, bases)


def _update(basis: SpectralBasis, bases: Sequence[SpectralBasis]) -> HeldUpdate:
    outer = plan_of(basis.out_features)
    assert outer is not None
    return HeldUpdate(held_input(bases), basis, outer)


def _aligned(held: Tensor) -> Tensor:
    """As the kernel reads it: torch's own memory starts at multiples of 64 bytes, that of others may not."""
    held = held.contiguous()
    return held if held.data_ptr() % 64 == 0 else held.clone()

"""The kernel's functions on tensors.

Shapes: x [sets, tokens, in], grad [sets, tokens, out], coefficients [sets, n], on the CPU. The kernel itself computes
in float32; half precision is converted slab by slab.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled.build import Kernel, load_kernel
from fourierft.spectral.compiled.plan import LARGEST_UNROLLED, Plan, entries_of, links_of, plan_of, radices_of
from fourierft.spectral.probe import check_product
from fourierft.spectral.slabs import slabs, write


class CompiledUpdate:
    """The updates of one basis through the kernel.

    Args:
        kernel: from `load_kernel`.
        basis: the entries.
        inner, outer: plans of the basis' in_features and out_features.
    """

    def __init__(self, kernel: Kernel, basis: SpectralBasis, inner: Plan, outer: Plan) -> None:
        self._kernel, self._inner, self._outer = kernel, inner, outer
        self._n, self._factor = basis.n_frequency, 0.5 / (basis.out_features * basis.in_features)
        rows, columns = basis.entries.numpy()
        self._links, self._reversed = links_of(inner, outer, columns, rows), links_of(outer, inner, rows, columns)
        self._entries = entries_of(basis, inner, outer)
        self._forward = _references(inner, outer, self._links)
        self._backward = _references(outer, inner, self._reversed)
        self._inner_length = basis.in_features  # a field of a struct takes longer to read
        self._narrow_tile = 2 * kernel.narrow.lanes()

    def product(
        self, x: Tensor, coefficients: Tensor, scaling: float, transposed: bool = False, onto: Tensor | None = None
    ) -> Tensor:
        """dW x, [sets, tokens, out], in the dtype of x; transposed: dW^T x of x [sets, tokens, out].

        Given `onto`, of the result's shape, adds to it in place and returns it.
        """
        length = (self._inner if transposed else self._outer).length
        y = x.new_empty(*x.shape[:2], length) if onto is None else onto
        if _is_direct(x, y):
            return self._product(x, coefficients.float(), scaling, transposed, y, onto is not None)
        for part in slabs(x, max(length, x.shape[2])):
            sets = coefficients[part[0]].float()
            found = x.new_empty(*x[part].shape[:2], length, dtype=torch.float32)
            write(y[part], self._product(x[part].float(), sets, scaling, transposed, found, False), onto is not None)
        return y

    def add(self, y: Tensor, x: Tensor, coefficients: Tensor, scaling: float, sets: int) -> None:
        """Add dW x to y in place, with less around the kernel than `product`: all float32.

        Args:
            y: contiguous, [..., out].
            x: [..., in], or [sets, ..., in] for several sets.
            coefficients: [n] or [sets, n].
            scaling: alpha.
            sets: how many, at least 1.
        """
        tokens = x.numel() // (sets * self._inner_length)
        if sets > 1:
            self._run(x.contiguous(), coefficients.contiguous(), scaling, False, y, sets, tokens, True)
            return
        x, coefficients = x.contiguous(), coefficients.contiguous()
        library = self._kernel.narrow if tokens <= 2 * self._narrow_tile else self._kernel.wide
        library.token_product(
            *self._forward,
            x.data_ptr(),
            coefficients.data_ptr(),
            self._factor * scaling,
            y.data_ptr(),
            1,
            tokens,
            self._n,
            True,
            torch.get_num_threads(),
        )

    def _fills_tiles_with_sets(self, sets: int, tokens: int) -> bool:
        """Whether a tile filled with the tokens of several sets is cheaper than a tile for each set."""
        return sets > 1 and tokens <= self._narrow_tile

    def _library(self, tokens: int) -> ctypes.CDLL:
        """The build for so many tokens a call, or a set: one wide tile costs as much as two or three narrow ones."""
        return self._kernel.narrow if tokens <= 2 * self._narrow_tile else self._kernel.wide

    def _product(
        self, x: Tensor, coefficients: Tensor, scaling: float, transposed: bool, y: Tensor, add: bool
    ) -> Tensor:
        sets, tokens, _ = x.shape
        self._run(x.contiguous(), coefficients.contiguous(), scaling, transposed, y, sets, tokens, add)
        return y

    def _run(
        self,
        x: Tensor,
        coefficients: Tensor,
        scaling: float,
        transposed: bool,
        y: Tensor,
        sets: int,
        tokens: int,
        add: bool,
    ) -> None:
        if self._fills_tiles_with_sets(sets, tokens):
            function = self._library(sets * tokens).row_product
        else:
            function = self._library(tokens).token_product
        function(
            *(self._backward if transposed else self._forward),
            x.data_ptr(),
            coefficients.data_ptr(),
            self._factor * scaling,
            y.data_ptr(),
            sets,
            tokens,
            self._n,
            add,
            torch.get_num_threads(),
        )

    def gradients(
        self, grad: Tensor, x: Tensor, coefficients: Tensor | None, scaling: float, onto: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of x, in its dtype (empty without coefficients), and of the coefficients, float32 [sets, n].

        Given `onto`, of the shape of x, adds the first to it in place and returns it.
        """
        grad_x = onto if onto is not None else x.new_empty(0 if coefficients is None else x.shape)
        if _is_direct(x, grad, grad_x):
            sets = None if coefficients is None else coefficients.float()
            return grad_x, self._gradients(grad, x, sets, scaling, grad_x, onto is not None)
        total = x.new_zeros(len(x), self._n, dtype=torch.float32)
        for part in slabs(x, max(self._inner.length, self._outer.length)):
            sets = None if coefficients is None else coefficients[part[0]].float()
            found = x.new_empty(x[part].shape, dtype=torch.float32)
            total[part[0]] += self._gradients(grad[part].float(), x[part].float(), sets, scaling, found, False)
            if sets is not None:
                write(grad_x[part], found, onto is not None)
        return grad_x, total

    def _gradients(
        self, grad: Tensor, x: Tensor, coefficients: Tensor | None, scaling: float, grad_x: Tensor, add: bool
    ) -> Tensor:
        threads = torch.get_num_threads()
        grad, x = grad.contiguous(), x.contiguous()
        coefficients = None if coefficients is None else coefficients.contiguous()
        found, partial = x.new_empty(len(x), self._n), x.new_empty(threads, self._n)
        self._library(x.shape[1]).token_gradients(
            *_references(self._inner, self._outer, self._entries, self._reversed),
            grad.data_ptr(),
            x.data_ptr(),
            None if coefficients is None else coefficients.data_ptr(),
            self._factor * scaling,
            None if coefficients is None else grad_x.data_ptr(),
            found.data_ptr(),
            partial.data_ptr(),
            *x.shape[:2],
            add,
            threads,
        )
        return found


def compiled_update(basis: SpectralBasis, dtype: torch.dtype, device: torch.device) -> CompiledUpdate | None:
    """The kernel for a basis, or None where it cannot serve: another dtype or device, a length with a large prime.

    Raises: BackendError, if its results are wrong here; checked once a basis.
    """
    if dtype != torch.float32 or device.type != "cpu":
        return None
    return basis.keep("compiled", _compiled)


def is_served(out_features: int, in_features: int, dtype: torch.dtype, device: str) -> bool:
    """Whether `compiled_update` has a kernel for a shape, dtype and type of device; a constant to what traces it."""
    lengths_fit = radices_of(in_features) is not None and radices_of(out_features) is not None
    return dtype == torch.float32 and device == "cpu" and lengths_fit and load_kernel() is not None


def large_primes(length: int) -> int:
    """Sum of the prime factors of a length that a transform sums up as they stand; a constant to what traces it."""
    return sum(radix for radix in radices_of(length) or () if radix > LARGEST_UNROLLED)


# What `torch.compiler.assume_constant_result` does, which would import the compiler with this package.
is_served._dynamo_marked_constant = large_primes._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _compiled(basis: SpectralBasis) -> CompiledUpdate | None:
    inner, outer = plan_of(basis.in_features), plan_of(basis.out_features)
    kernel = load_kernel() if inner is not None and outer is not None else None
    if kernel is None or inner is None or outer is None:
        return None
    update = CompiledUpdate(kernel, basis, inner, outer)
    scaling = float(basis.out_features * basis.in_features)
    check_product(lambda x, coefficients: update.product(x, coefficients, scaling), basis)
    return update


def _references(*structs: ctypes.Structure) -> list[Any]:
    return [ctypes.byref(struct) for struct in structs]


def _is_direct(*tensors: Tensor) -> bool:
    """Whether the kernel can read and write these as they are; inputs that are not contiguous it gets copies of."""
    return all(tensor.dtype == torch.float32 for tensor in tensors) and tensors[-1].is_contiguous()

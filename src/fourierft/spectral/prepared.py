"""An update at rest: for inference, where what depends on the coefficients alone need not be computed again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fourierft.errors import ShapeError
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import compiled_update
from fourierft.spectral.kernels import kernel_of
from fourierft.spectral.probe import check_token_transforms
from fourierft.spectral.token_transforms import carry
from fourierft.spectral.transforms import compute_dtype, from_token_spectrum, link_factors, mix, token_spectrum

_SMALL = 1 << 16  # elements of x up to which it is transformed in one piece


def add_product(y: Tensor, x: Tensor, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> bool:
    """Add x dW^T to y in place, if the compiled kernel can: it reads coefficients as it runs, so nothing is prepared.

    Args:
        y: [..., out].
        x: [..., in], or [rows, ..., in] for a set of coefficients a row.
        coefficients: [n] or [rows, n].
        basis: entries of an [out, in] weight.
        scaling: dimensionless.

    Returns: whether it did; not if a tensor is not float32, y not contiguous, or the kernel cannot serve the basis.

    Raises: ShapeError, if shapes do not fit.
    """
    if not x.dtype == y.dtype == coefficients.dtype == torch.float32 or not y.is_contiguous():
        return False
    if not (x.is_cpu and y.is_cpu and coefficients.is_cpu):
        return False
    kernel = compiled_update(basis, torch.float32, x.device)
    if kernel is None:
        return False
    sets, inner = 1, basis.in_features
    if coefficients.dim() != 1 or coefficients.numel() != basis.n_frequency:
        _check_sets(coefficients, basis)
        sets = max(len(coefficients), 1)
    if sets > 1 or x.shape[-1] != inner:
        _check_input(x, sets, basis)
    if x.numel() * basis.out_features != y.numel() * inner:
        raise ShapeError(f"y is {list(y.shape)}; use {[*x.shape[:-1], basis.out_features]}")
    kernel.add(y, x, coefficients, scaling, sets)
    return True


class PreparedUpdate:
    """The token and row views of coefficients that do not change; no gradients.

    Args:
        coefficients: [n], one set for all rows, or [rows, n], one set a row of x.
        basis: entries of an [out, in] weight.
        scaling: dimensionless.

    Attributes:
        dtype: in which it computes and returns, float32 or float64.

    Raises:
        ShapeError, if coefficients do not fit the basis.
        BackendError, if the transforms of this backend are wrong for this shape.
    """

    def __init__(self, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> None:
        _check_sets(coefficients, basis)
        self.basis, self.dtype = basis, compute_dtype(coefficients.dtype)
        sets = coefficients.detach().reshape(-1, basis.n_frequency).to(self.dtype)
        self._sets = len(sets)
        kernel = kernel_of(basis, self.dtype, sets)
        self._product: Callable[[Tensor, Tensor | None], Tensor]
        if kernel is None:
            self._product = _TorchProduct(sets, basis, scaling)
        else:  # packs coefficients while it reads them
            self._product = lambda x, onto: kernel.product(x, sets, scaling, onto=onto)

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x dW^T: x [..., in], or [rows, ..., in] for one set a row -> [..., out].

        Given `onto`, [..., out] of the result's dtype and contiguous, adds to it in place and returns it.
        """
        sets, length = self._sets, self.basis.out_features
        _check_input(x, sets, self.basis)
        with torch.no_grad():
            x, shape = x.to(self.dtype).reshape(sets, -1, x.shape[-1]), (*x.shape[:-1], length)
            y = self._product(x, None if onto is None else onto.view(*x.shape[:2], length))
        return y.view(shape) if onto is None else onto


class _TorchProduct:
    """x [sets, tokens, in] -> [sets, tokens, out] with the factors of the links ready."""

    def __init__(self, sets: Tensor, basis: SpectralBasis, scaling: float) -> None:
        check_token_transforms(basis.out_features, basis.in_features, sets.dtype, sets.device)
        self._links, self._length = basis.links(sets.device), basis.out_features
        factors = link_factors(sets, self._links, scaling / basis.in_features)
        self._factors = factors.t().contiguous().t()  # [sets, 2n], sets innermost: the layout of one token a row

    def __call__(self, x: Tensor, onto: Tensor | None) -> Tensor:
        if 0 < x.numel() <= _SMALL:
            y = from_token_spectrum(mix(token_spectrum(x), self._factors, self._links), self._length)
        else:
            y = carry(x, self._factors, self._links, self._length)
        return y if onto is None else onto.add_(y)


def _check_sets(coefficients: Tensor, basis: SpectralBasis) -> None:
    n = basis.n_frequency
    if coefficients.dim() not in (1, 2) or coefficients.shape[-1] != n:
        raise ShapeError(f"coefficients are {list(coefficients.shape)}; use [{n}] or [rows, {n}]")


def _check_input(x: Tensor, sets: int, basis: SpectralBasis) -> None:
    if x.shape[-1] != basis.in_features or (sets > 1 and len(x) != sets):
        raise ShapeError(
            f"x is {list(x.shape)} for {sets} sets of a {basis.out_features} x {basis.in_features} weight; "
            f"use x [{'rows' if sets == 1 else sets}, ..., {basis.in_features}]"
        )

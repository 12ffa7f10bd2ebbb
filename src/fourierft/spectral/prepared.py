"""An update at rest: for inference, where what depends on the coefficients alone need not be computed again."""

from __future__ import annotations

import torch
from torch import Tensor

from fourierft.errors import ShapeError
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.probe import check_token_transforms
from fourierft.spectral.tokens import carry
from fourierft.spectral.transforms import compute_dtype, from_token_spectrum, link_factors, mix, token_spectrum

_SMALL = 1 << 16  # elements of x up to which its transform is kept for the next layer that reads it


class PreparedUpdate:
    """The token and row views of coefficients that do not change; no gradients.

    Projections that read one small x, as q, k and v do, share its transform.

    Args:
        coefficients: [n], one set for all rows, or [rows, n], one set a row of x.
        basis: entries of an [out, in] weight.
        scaling: dimensionless.

    Raises:
        ShapeError, if coefficients do not fit the basis.
        BackendError, if the transforms of this backend are wrong for this shape.
    """

    def __init__(self, coefficients: Tensor, basis: SpectralBasis, scaling: float) -> None:
        if coefficients.dim() not in (1, 2) or coefficients.shape[-1] != basis.n_frequency:
            raise ShapeError(
                f"coefficients are {list(coefficients.shape)}; use [{basis.n_frequency}] or [rows, {basis.n_frequency}]"
            )
        dtype = compute_dtype(coefficients.dtype)
        check_token_transforms(basis.out_features, basis.in_features, dtype, coefficients.device)
        self.basis, self.links = basis, basis.links(coefficients.device)
        sets = coefficients.detach().reshape(-1, basis.n_frequency).to(dtype)
        factors = link_factors(sets, self.links, scaling / basis.in_features)
        self.factors = factors.t().contiguous().t()  # [sets, 2n], sets innermost: the layout of one token a row

    def __call__(self, x: Tensor) -> Tensor:
        """x dW^T: x [..., in], or [rows, ..., in] for one set a row -> [..., out]; float32 or float64, as prepared."""
        sets, length = len(self.factors), self.basis.out_features
        if x.shape[-1] != self.basis.in_features or (sets > 1 and len(x) != sets):
            raise ShapeError(
                f"x is {list(x.shape)} for {sets} sets of a {length} x {self.basis.in_features} weight; "
                f"use x [{'rows' if sets == 1 else sets}, ..., {self.basis.in_features}]"
            )
        with torch.no_grad():
            if 0 < x.numel() <= _SMALL:
                y = from_token_spectrum(mix(self._spectrum(x, sets), self.factors, self.links), length)
            else:
                y = carry(x.to(self.factors.dtype).reshape(sets, -1, x.shape[-1]), self.factors, self.links, length)
        return y.view(*x.shape[:-1], length)

    def _spectrum(self, x: Tensor, sets: int) -> Tensor:
        kept = getattr(x, "_fourierft_spectrum", None)
        version = None if x.is_inference() else x._version
        key = (sets, self.factors.dtype, version)
        if kept is not None and version is not None and kept[0] == key:
            return kept[1]
        spectrum = token_spectrum(x.to(self.factors.dtype).reshape(sets, -1, x.shape[-1]))
        x._fourierft_spectrum = (key, spectrum)  # type: ignore[attr-defined]
        return spectrum

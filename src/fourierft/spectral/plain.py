"""The views in torch's own operators, which every transform of `torch.func` knows, and forward-mode gradients.

`fourierft::` operators have gradients of their own, which `torch.func.grad`, `jvp`, `jacrev` and dual tensors cannot go
through. Where one of them is at work, the views are computed here, by functions of the same arguments as in ops.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fourierft.spectral.basis import Links
from fourierft.spectral.draw import basis_of
from fourierft.spectral.lookup import read_waves
from fourierft.spectral.transforms import compute_dtype, link_factors


def token_view(x: Tensor, coefficients: Tensor, basis: str, scaling: float, transposed: bool) -> Tensor:
    """x [rows, tokens, in] -> dW x [rows, tokens, out]; transposed: x [.., out] -> dW^T x [.., in]."""
    dtype = torch.promote_types(compute_dtype(x.dtype), compute_dtype(coefficients.dtype))
    source, target, links = _sides(basis, x.device, transposed)
    spectrum = torch.view_as_real(torch.fft.rfft(x.to(dtype))).flatten(-2)  # [rows, tokens, source rows]
    factors = link_factors(coefficients.to(dtype), links, scaling / source)  # [sets, 2n]
    return _back(spectrum[..., links.source] * factors[:, None], links, target).to(x.dtype)


def lookup_view(ids: Tensor, coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    """Rows of dW, ids [rows, tokens] -> [rows, tokens, in], in float32 or float64."""
    dtype = compute_dtype(coefficients.dtype)
    source, target, links = _sides(basis, ids.device, True)
    factors = link_factors(coefficients.to(dtype), links, scaling / source)
    read = read_waves(ids, basis_of(basis), links, dtype).movedim(0, -1)  # [rows, tokens, 2n]
    return _back(read * factors[:, None], links, target)


def adapted(
    x: Tensor, weight: Tensor, bias: Tensor | None, coefficients: Tensor, basis: str, scaling: float, dense: bool
) -> Tensor:
    """x (W + dW)^T + bias: x [rows, tokens, in] -> [rows, tokens, out]."""
    return F.linear(x, weight, bias) + token_view(x, coefficients, basis, scaling, False)


def delta(coefficients: Tensor, basis: str, scaling: float) -> Tensor:
    """The dense update, coefficients [1, n] -> [out, in], in the dtype of the coefficients."""
    out_features = _sides(basis, coefficients.device, True)[0]
    unit = torch.eye(out_features, dtype=compute_dtype(coefficients.dtype), device=coefficients.device)
    return token_view(unit[None], coefficients, basis, scaling, True)[0].to(coefficients.dtype)


def _back(read: Tensor, links: Links, length: int) -> Tensor:
    """What the links read and scaled, [..., 2n], as tokens of the output, [..., length]."""
    empty = read.new_zeros(*read.shape[:-1], links.target_rows)
    mixed = empty.index_add(-1, links.target, read).unflatten(-1, (-1, 2))
    return torch.fft.irfft(torch.view_as_complex(mixed), n=length)


def _sides(basis: str, device: torch.device, transposed: bool) -> tuple[int, int, Links]:
    """Lengths of the input and the output, and the links between their spectra; a constant to what traces it."""
    found = basis_of(basis)
    if transposed:
        return found.out_features, found.in_features, found.reversed_links(device)
    return found.in_features, found.out_features, found.links(device)


_sides._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as in compiled/calls.py

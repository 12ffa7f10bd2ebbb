"""A check of the machine's transforms, once per shape, dtype and device, before anything is trained on them.

Some builds return a wrong transform at some sizes without an error (the CPU build of torch 2.13 leaves a complex
2048 x 2048 inverse unnormalised with two threads). The transform of one entry is one cosine, known in closed form, so a
fault shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from fourierft.errors import BackendError
from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.eager import is_captured
from fourierft.spectral.transforms import from_token_spectrum, token_spectrum, weight_from_columns

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}  # of the cosine's amplitude
_TESTED = 8  # entries of a basis
_checked: set[tuple] = set()


def check_token_transforms(out_features: int, in_features: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise BackendError if the 1-D transforms of these lengths are wrong here; float32 or float64, probed once.

    While a graph is captured nothing can be probed; what is not checked by then is checked when it is next used.
    """
    for length in {in_features, out_features}:
        key = (length, dtype, device)
        if key not in _checked and not is_captured(device):
            frequency = length // 3
            wave = _cosine(length, frequency, dtype, device).expand(1, 2, length)
            spectrum = torch.zeros(1, 2 * (length // 2 + 1), 2, dtype=dtype, device=device)
            real = frequency == 0 or 2 * frequency == length
            spectrum[:, 2 * frequency] = length if real else length / 2
            _compare(token_spectrum(wave) / length, spectrum / length, f"rfft of length {length}")
            _compare(from_token_spectrum(spectrum, length), wave, f"irfft of length {length}")
            _checked.add(key)


def check_weight_transforms(out_features: int, in_features: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise BackendError if the 2-D transforms of this shape are wrong here; float32 or float64, probed once.

    Not while a graph is captured, as above.
    """
    key = (out_features, in_features, dtype, device)
    if key in _checked or is_captured(device):
        return
    u, v = out_features // 3, in_features // 3
    columns = torch.zeros(in_features // 2 + 1, out_features, dtype=dtype, device=device)
    columns[v, -u % out_features] += 0.5  # the Hermitian half of one entry, as in SpectralBasis.half_spectrum
    if v == 0 or 2 * v == in_features:
        columns[v, u] += 0.5
    wave = weight_from_columns(columns, in_features) * in_features
    rows = torch.tensor(sorted({0, out_features // 2, out_features - 1}), device=device)
    phase = rows.double() * u % out_features / out_features
    turns = phase[:, None] + torch.arange(in_features, device=device).double() * v % in_features / in_features
    _compare(
        wave[rows], torch.cos(2 * math.pi * turns).to(dtype), f"inverse transform of {out_features} x {in_features}"
    )
    back = torch.fft.rfft2(wave)[u, v].real / (out_features * in_features)
    mirrored = (2 * u) % out_features == 0 and (2 * v) % in_features == 0
    _compare(back, torch.full_like(back, 1.0 if mirrored else 0.5), f"rfft2 of {out_features} x {in_features}")
    _checked.add(key)


def check_product(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], basis: SpectralBasis) -> None:
    """Raise BackendError if a product of x [1, tokens, in] with the coefficients [1, n] of scaling out * in is wrong.

    Some entries of the basis, whose cosines separate: cos(a + b) = cos a cos b - sin a sin b.
    """
    out_features, in_features = basis.out_features, basis.in_features
    tested = torch.linspace(0, basis.n_frequency - 1, min(_TESTED, basis.n_frequency)).long()
    coefficients = torch.zeros(1, basis.n_frequency)
    coefficients[0, tested] = 1.0 + torch.arange(len(tested)) / len(tested)
    x = torch.cos(torch.arange(3 * in_features) ** 2 * 0.37).view(1, 3, in_features)
    truth = torch.zeros(3, out_features, dtype=torch.float64)
    for k in tested.tolist():
        u, v = basis.entries[:, k].tolist()
        rows, columns = _angles(out_features, u), _angles(in_features, v)
        along, across = x[0].double() @ columns.cos(), x[0].double() @ columns.sin()
        truth += coefficients[0, k].double() * (along[:, None] * rows.cos() - across[:, None] * rows.sin())
    unit = float(truth.abs().max()) or 1.0
    error = float((product(x, coefficients)[0] - truth).abs().max()) / unit
    if not error <= _TOLERANCE[torch.float32]:
        raise BackendError(
            f"the compiled kernel's product with a {out_features} x {in_features} update is wrong by {error:.1e} of "
            "its largest number; set FOURIERFT_KERNEL=torch, which uses torch's transforms instead"
        )


def _angles(length: int, frequency: int) -> torch.Tensor:
    return torch.arange(length).double() * frequency % length * (2 * math.pi / length)


def _cosine(length: int, frequency: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.cos(_angles(length, frequency)).to(device, dtype)


def _compare(found: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    error = float((found - expected).abs().max())
    if not error <= _TOLERANCE[expected.dtype]:
        raise BackendError(
            f"{name} in {expected.dtype} on {expected.device} is wrong by {error:.1e} of a cosine of amplitude 1 "
            f"(torch {torch.__version__}, {torch.get_num_threads()} threads); use another torch build, device or "
            "number of threads"
        )

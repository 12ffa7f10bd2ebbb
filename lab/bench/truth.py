"""The truth that contenders are compared with: the cosine sum in float64, factored so that wide layers take seconds.

`fourierft.spectral.reference` sums n cosines over the [out, in] plane. Here cos(a + b) = cos a cos b - sin a sin b
turns the same sum into matrix products of [out, n] and [in, n] tables. No transform is used. A test holds the two
equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

CHUNK = 2048  # entries in flight


def true_delta_weight(
    coefficients: torch.Tensor, entries: torch.Tensor, out_features: int, in_features: int, scaling: float
) -> torch.Tensor:
    """Weight update of one adapter, float64 [out, in], on the device of the coefficients."""
    c = coefficients.detach().double()
    delta = torch.zeros(out_features, in_features, dtype=torch.float64, device=c.device)
    for part, rows, columns in _waves(entries.to(c.device), out_features, in_features):
        for row, column, sign in zip(rows, columns, (1, -1), strict=True):
            delta.addmm_(row * c[part], column.T, alpha=sign)
    return delta * (scaling / (out_features * in_features))


def true_coefficient_gradient(grad_weight: torch.Tensor, entries: torch.Tensor, scaling: float) -> torch.Tensor:
    """Gradient to the coefficients, float64 [n], from the gradient to the weight, [out, in]."""
    grad = grad_weight.double()
    parts = []
    for _, rows, columns in _waves(entries.to(grad.device), *grad.shape):
        cos, sin = ((row * (grad @ column)).sum(0) for row, column in zip(rows, columns, strict=True))
        parts.append(cos - sin)
    return torch.cat(parts) * (scaling / grad.numel())


def true_layer(
    x: torch.Tensor, grad_out: torch.Tensor, coefficients: torch.Tensor, entries: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the adapter adds to a linear layer: output [t, out], gradients to x [t, in] and to c [n], float64.

    Args:
        x: [t, in].
        grad_out: [t, out], gradient of the loss to the output.
        coefficients: [n].
        entries: [2, n].
        scaling: of the adapter.
    """
    x, grad_out, c = x.detach().double(), grad_out.double(), coefficients.detach().double()
    out_features, in_features = grad_out.shape[1], x.shape[1]
    scale = scaling / (out_features * in_features)
    out, grad_x, grad_c = torch.zeros_like(grad_out), torch.zeros_like(x), torch.zeros_like(c)
    for part, rows, columns in _waves(entries.to(c.device), out_features, in_features):
        for row, column, sign in zip(rows, columns, (1, -1), strict=True):
            x_bins, grad_bins = x @ column, grad_out @ row  # [t, n] each
            out += sign * scale * (x_bins * c[part]) @ row.T
            grad_x += sign * scale * (grad_bins * c[part]) @ column.T
            grad_c[part] += sign * scale * (x_bins * grad_bins).sum(0)
    return out, grad_x, grad_c


def _waves(
    entries: torch.Tensor, out_features: int, in_features: int
) -> Iterator[tuple[slice, tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]]:
    """Per chunk of entries: its slice, (cos, sin) [out, n] of the rows, (cos, sin) [in, n] of the columns."""
    for start in range(0, entries.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        yield part, _wave(entries[0, part], out_features), _wave(entries[1, part], in_features)


def _wave(index: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    steps = torch.arange(length, device=index.device)
    phase = steps[:, None] * index[None, :] % length  # [length, n], reduced in integers
    turns = steps.double() * (2 * math.pi / length)
    return turns.cos()[phase], turns.sin()[phase]

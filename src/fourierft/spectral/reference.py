"""The cosine sum in float64, written as the paper defines it: the truth that every test compares with.

    dW[p, q] = alpha / (out * in) * sum_k c[k] * cos(2 pi (p * u[k] / out + q * v[k] / in))

which is `alpha * Re(ifft2(F))` with F[u[k], v[k]] = c[k] (paper Eq. 2-4). Cost: n * out * in. No transform is used.
"""

from __future__ import annotations

import math

import torch


def cosine_atoms(entries: torch.Tensor, out_features: int, in_features: int) -> torch.Tensor:
    """The n cosines of a basis, float64 [n, out, in]; phases are reduced in integers, exact to one rounding."""
    rows, columns = entries.to(torch.int64)  # [n], [n]
    p = torch.arange(out_features)[None, :] * rows[:, None] % out_features  # [n, out]
    q = torch.arange(in_features)[None, :] * columns[:, None] % in_features  # [n, in]
    turns = p.double()[:, :, None] / out_features + q.double()[:, None, :] / in_features
    return torch.cos(2 * math.pi * turns)


def reference_delta_weight(
    coefficients: torch.Tensor, entries: torch.Tensor, out_features: int, in_features: int, scaling: float
) -> torch.Tensor:
    """The weight update of one adapter, float64 [out, in], one atom at a time."""
    delta, entries = torch.zeros(out_features, in_features, dtype=torch.float64), entries.cpu()
    for k in range(entries.shape[1]):
        delta += coefficients[k].double().cpu() * cosine_atoms(entries[:, k : k + 1], out_features, in_features)[0]
    return delta * (scaling / (out_features * in_features))


def reference_coefficient_gradient(grad_weight: torch.Tensor, entries: torch.Tensor, scaling: float) -> torch.Tensor:
    """Gradient of a loss to the coefficients, float64 [n], from its gradient to the weight, [out, in]."""
    out_features, in_features = grad_weight.shape
    grad = grad_weight.double().cpu()
    atoms = (cosine_atoms(entries[:, k : k + 1].cpu(), out_features, in_features)[0] for k in range(entries.shape[1]))
    return torch.stack([(grad * atom).sum() for atom in atoms]) * (scaling / (out_features * in_features))

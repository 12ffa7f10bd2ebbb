"""A real cosine basis in place of Fourier's, as MaCP (arXiv 2410.09103) and LoCA (2502.06820) have it.

dW[p, q] = scaling / sqrt(2 out in) * sum_k c_k a_{u_k}(p) b_{v_k}(q)

a and b are the orthonormal cosines of the DCT-II of lengths out and in. The factor gives a step the norm that it has in
Fourier's basis, where each entry's wave has the norm sqrt(out in / 2) and is multiplied with scaling / (out in).
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


class Cosines:
    """How the n numbers of a layer become its update in the cosine basis.

    Args:
        out_features, in_features: of the weight.
        entries: frequencies (u, v), int64 [2, n], those that Fourier's basis would have.
        scaling: of the layer.
    """

    def __init__(self, out_features: int, in_features: int, entries: Tensor, scaling: float) -> None:
        rows, columns = (tuple(frequencies.tolist()) for frequencies in entries)
        self.scaling = scaling / math.sqrt(2 * out_features * in_features)
        self.outputs, self.inputs = cosines(out_features, rows), cosines(in_features, columns)

    def delta_weight(self, numbers: Tensor) -> Tensor:
        """The update of numbers [n], [out, in]."""
        scaled = (numbers * self.scaling)[:, None] * self.outputs.to(numbers.device)  # [n, out]
        return scaled.T @ self.inputs.to(numbers.device)


@functools.lru_cache(maxsize=64)
def cosines(size: int, frequencies: tuple[int, ...]) -> Tensor:
    """Functions of the orthonormal DCT-II of a length, one a row, float32 [frequencies, size]."""
    chosen = torch.tensor(frequencies)
    turns = torch.outer(chosen, 2 * torch.arange(size) + 1) % (4 * size)
    rows = (turns.double() * (math.pi / (2 * size))).cos() * math.sqrt(2 / size)
    rows[chosen == 0] /= math.sqrt(2)
    return rows.float()

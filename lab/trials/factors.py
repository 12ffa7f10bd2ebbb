"""Factored spectra: dW = 16 / r * B A, the rows of A and the columns of B sparse in the real Fourier basis.

A [r, in] = s_a a T_a, B [out, r] = s_b (b T_b)^T, with coefficients a [r, n_a] and b [r, n_b] that are trained, and
frequencies T_a [n_a, in] and T_b [n_b, out] that are frozen, drawn from the seed and the same for all layers of a
shape. b starts at zero, a so that the rows of A have the norm of LoRA's; s_a and s_b make a step of Adam move A and B
by as much as it moves LoRA's factors at the same learning rate.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

ALPHA = 16.0


class Factors:
    """How the n numbers of a layer become the factors of its update.

    Args:
        out_features, in_features: of the weight.
        n_frequency: numbers of the layer, rank * (n_a + n_b).
        rank: of the update.
        ratio: learning rate of B over that of A.
        seed: of the frequencies.
    """

    def __init__(self, out_features: int, in_features: int, n_frequency: int, rank: int, ratio: float, seed: int):
        n_a = min(n_frequency // (2 * rank), in_features)
        n_b = min(n_frequency // rank - n_a, out_features)
        self.rank, self.n_a, self.n_b = rank, n_a, n_b
        self.inputs = frequencies(in_features, n_a, seed) * math.sqrt(in_features / n_a)
        self.outputs = frequencies(out_features, n_b, seed + 1) * (ratio * math.sqrt(out_features / n_b))

    def start(self, numbers: Tensor) -> None:
        """Fill the numbers [n] of a new adapter: normal for A, zeros for B."""
        std = 1 / math.sqrt(3 * self.inputs.shape[1])
        numbers.zero_()
        numbers[: self.rank * self.n_a] = std * torch.randn(self.rank * self.n_a)

    def delta_weight(self, numbers: Tensor) -> Tensor:
        """The update of numbers [n], [out, in]."""
        a, b, _ = numbers.split(
            [self.rank * self.n_a, self.rank * self.n_b, len(numbers) - self.rank * (self.n_a + self.n_b)]
        )
        left = b.view(self.rank, -1) @ self.outputs.to(numbers.device)  # [r, out]
        right = a.view(self.rank, -1) @ self.inputs.to(numbers.device)  # [r, in]
        return ALPHA / self.rank * left.T @ right


@functools.lru_cache(maxsize=64)
def frequencies(size: int, count: int, seed: int) -> Tensor:
    """`count` rows of the real Fourier basis of a length, drawn without replacement, orthonormal, [count, size]."""
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    return fourier_basis(size)[chosen]


def fourier_basis(size: int) -> Tensor:
    """The orthonormal real Fourier basis, a function a row, float32 [size, size]: 1, cosines and sines in turn."""
    turns = torch.outer(torch.arange(size), torch.arange(size)) % size * (2 * math.pi / size)
    rows = torch.empty(size, size)
    rows[0] = 1 / math.sqrt(size)
    half = (size - 1) // 2
    rows[1 : 2 * half : 2] = turns[1 : half + 1].cos() * math.sqrt(2 / size)
    rows[2 : 2 * half + 1 : 2] = turns[1 : half + 1].sin() * math.sqrt(2 / size)
    if size % 2 == 0:
        rows[-1] = turns[size // 2].cos() / math.sqrt(size)
    return rows

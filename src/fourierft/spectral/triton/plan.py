"""How a transform falls into small matrix products, and the tables that its kernel reads.

A length N = N1 * N2 * N3 is transformed by three products, N1 x N1, N2 x N2 and N3 x N3, with twiddles between them:

    place q = q1 * N2 * N3 + q2 * N3 + q3,  bin k = k1 + N1 * k2 + N1 * N2 * k3
    q * k / N = q1 * k1 / N1 + q2 * k1 / (N1 * N2) + q2 * k2 / N2 + q3 * (k1 + N1 * k2) / N + q3 * k3 / N3   (mod 1)

The first factor is taken in slabs, SLAB values of k1 at a time, so that a program holds at most 4096 values, whatever
the length; it is padded to a multiple. The others are padded to powers of two of at least 16, what products of tensor
cores and blocks of Triton are made of; a third factor of 1 stays 1. The exponent is positive, as in the paper's ifft2.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

SLAB = 16  # values of the first factor at a time: the least side of a product
_FIRST, _OTHERS = 256, 64  # largest factors
_MOST = 4096  # padded values of a slab: what the registers of one program hold


@dataclass(frozen=True)
class Plan:
    """The factors of a length, and what they are padded to."""

    length: int
    factors: tuple[int, int, int]
    padded: tuple[int, int, int]

    @property
    def values(self) -> int:
        """Padded values of a slab."""
        return SLAB * self.padded[1] * self.padded[2]

    def bins(self) -> Tensor:
        """The bin of each padded value, -1 where there is none: flat int64, in order (k1, k2, k3)."""
        k1, k2, k3 = torch.meshgrid(*(torch.arange(side) for side in self.padded), indexing="ij")
        n1, n2, n3 = self.factors
        return torch.where((k1 < n1) & (k2 < n2) & (k3 < n3), k1 + n1 * (k2 + n2 * k3), -1).flatten()

    def tables(self) -> Tensor:
        """Factors and twiddles as the kernel reads them, flat float32: of each the real, then the imaginary part.

        F1 [P1, P1], F2 [P2, P2], F3 [P3, P3], twiddles [P1, P2], twiddles [P1, P2, P3].
        """
        n1, n2, n3 = self.factors
        a, b, c = (torch.arange(side) for side in self.padded)
        parts = [_turns(torch.outer(x, x), n) for x, n in ((a, n1), (b, n2), (c, n3))]
        parts.append(_turns(torch.outer(a, b), n1 * n2))
        parts.append(_turns((a[:, None] + n1 * b).reshape(-1, 1) * c, self.length))
        return torch.cat([part.flatten() for part in parts])


@functools.lru_cache(maxsize=256)
def plan_of(length: int) -> Plan | None:
    """The cheapest plan of a length; None if it is no factor up to 256, times one up to 64 or two up to 16."""
    factors = [(length // b // c, b, c) for b in _divisors(length) for c in _divisors(length // b)]
    plans = [
        Plan(length, (a, b, c), (-(-a // SLAB) * SLAB, _padded(b), _padded(c) if c > 1 else 1))
        for a, b, c in factors
        if a <= _FIRST
    ]
    found = [plan for plan in plans if plan.values <= _MOST]
    return min(found, key=lambda plan: (math.prod(plan.padded) * sum(plan.padded), plan.padded[0]), default=None)


def has_plan(length: int) -> bool:
    """Whether the kernel takes a length; a constant to what traces it."""
    return plan_of(length) is not None


has_plan._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, min(number, _OTHERS) + 1) if number % d == 0]


def _padded(factor: int) -> int:
    return max(SLAB, 1 << (factor - 1).bit_length())


def _turns(products: Tensor, length: int) -> Tensor:
    """cos and sin of 2 pi products / length, stacked, float32."""
    angles = (products % length).double() * (2 * math.pi / length)
    return torch.stack([angles.cos(), angles.sin()]).float()

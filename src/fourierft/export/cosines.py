"""The cosines and sines that an update is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosines(frequency: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """[length, 2n]: cos, then sin, of 2 pi p f / length, for p in 0..length - 1 and f of `frequency` [n], integers."""
    turns = torch.arange(length)[:, None] * frequency % length  # exact, and so no angle is large
    angles = turns.to(dtype) * (2 * math.pi / length)
    return torch.cat([angles.cos(), angles.sin()], dim=1)

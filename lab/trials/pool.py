"""One pool of numbers for all layers, as Uni-LoRA (arXiv 2506.00799) has it.

Each coefficient of each layer is one number of the pool with a sign, both drawn from a seed: c_k = s_k pool[g_k]. Every
number stands for as many coefficients as any other, or one more. Uni-LoRA divides by the root of that many; here no one
does, so that a step of Adam moves a layer as far as if its coefficients were its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fourierft.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """What a layer takes of the pool.

    Attributes:
        groups: number of the pool behind each coefficient, int64 [n].
        signs: -1 or 1, float32 [n].
    """

    groups: Tensor
    signs: Tensor

    def of(self, pool: Tensor) -> Tensor:
        """The coefficients [n] that a pool gives."""
        return pool[self.groups.to(pool.device)] * self.signs.to(pool)


def share_out_pool(size: int, layers: int, n_frequency: int, seed: int) -> list[Share]:
    """The shares of layers with n_frequency coefficients each in a pool of `size` numbers.

    Raises: ConfigError, if the pool has more numbers than the layers have coefficients.
    """
    if size > layers * n_frequency:
        raise ConfigError(
            f"pool={size} has more numbers than the {layers * n_frequency} coefficients of {layers} layers; use fewer"
        )
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randperm(layers * n_frequency, generator=generator) % size
    signs = torch.randint(0, 2, (layers * n_frequency,), generator=generator) * 2.0 - 1
    parts = zip(groups.split(n_frequency), signs.split(n_frequency), strict=True)
    return [Share(*part) for part in parts]

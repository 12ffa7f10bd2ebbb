"""Table 6's layer: the same coefficients in another basis, dW = alpha * Re(B1 F B2^T), for training alone.

B1 [out, out] and B2 [in, in] are frozen and shared by all layers of a shape. With the columns of the inverse discrete
Fourier transform this is FourierFT itself. The other two bases are the paper's: independent normal elements, and random
orthogonal columns. They are scaled so that a coefficient moves dW by the same Frobenius norm as it does in FourierFT,
1 / sqrt(2 out in), which the paper does not say of its own; else alpha and learning rates would not carry over.

A config {"peft_type": "FOURIERFT", "basis": "orthogonal", ...} makes such an adapter while `bases_enabled` lasts. Its
checkpoints open nowhere else: this package and stock PEFT both stop and say why.
"""

from __future__ import annotations

import functools
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fourierft import uniform_entries
from fourierft.errors import ConfigError
from fourierft.format.record import FORMAT
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.model import FourierFTModel
from fourierft.tuner.registration import substituted

BASES = ("fourier", "random", "orthogonal")


@dataclass
class BasisConfig(FourierFTConfig):
    """A FourierFT config with a basis of BASES.

    Raises: ConfigError, if the basis is another, or entries are not drawn uniformly.
    """

    basis: str = "fourier"

    def __post_init__(self, fourierft: dict[str, Any] | None) -> None:
        super().__post_init__(fourierft)
        if self.basis not in BASES:
            raise ConfigError(f"basis={self.basis!r} is unknown; use one of {', '.join(BASES)}")
        if self.entries != "uniform":
            raise ConfigError(f"entries={self.entries!r} with a basis of Table 6; use entries='uniform'")

    def to_dict(self) -> dict[str, Any]:
        """The fields of adapter_config.json, which no loader takes for those of FourierFT."""
        fields = super().to_dict()
        fields["fourierft"] = {"format": FORMAT, **fields.get("fourierft", {}), "basis": fields.pop("basis")}
        fields["fourierft"]["required"] = ["basis"]
        fields["task_type"] = f"trained in the {self.basis} basis of the paper's Table 6, which is for comparison alone"
        return fields


class BasisLayer(FourierFTLayer):
    """A layer whose adapter has the basis of its config; it trains and evaluates, and does nothing else."""

    def update_layer(self, adapter_name: str, n_frequency: int, config: Any) -> None:
        """Add an adapter, or replace the one of that name."""
        super().update_layer(adapter_name, n_frequency, config)
        self.basis_kinds: dict[str, str] = {**getattr(self, "basis_kinds", {}), adapter_name: config.basis}

    def get_delta_weight(self, adapter: str) -> Tensor:
        """dW of an adapter, [out, in]."""
        coefficients = self.fourierft_coefficients[adapter].weight
        kind, seed = self.basis_kinds[adapter], self.fourierft_draw[adapter].seed
        shape = (self.out_features, self.in_features)
        left, right = basis_factors(kind, *shape, len(coefficients), seed, str(coefficients.device))
        return compose(coefficients, left, right, self.fourierft_scaling[adapter])

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus x dW^T."""
        result = self.base_layer(x, *args, **kwargs)
        for name in self.active_adapters:
            if name in self.fourierft_coefficients and not self.disable_adapters:
                result = result + (x.to(torch.float32) @ self.get_delta_weight(name).T).to(result.dtype)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse.

        Raises: ConfigError.
        """
        raise ConfigError("a basis of Table 6 is for comparison alone and does not merge; train method fourierft")


class BasisModel(FourierFTModel):
    """The tuner that puts BasisLayers into a model."""

    linear_layer_cls = BasisLayer


def bases_enabled() -> AbstractContextManager[None]:
    """PEFT's FourierFT takes configs with a basis while this lasts."""
    return substituted(BasisConfig, BasisModel)


def compose(coefficients: Tensor, left: Tensor, right: Tensor, scaling: float) -> Tensor:
    """scaling * Re(sum_k c_k left_k right_k^T), [out, in].

    Args:
        coefficients: [n].
        left: [out, n], the columns of B1 at the rows of the entries; real or complex.
        right: [in, n], the columns of B2 at the columns of the entries.
    """
    if not left.is_complex():
        return scaling * (left * coefficients) @ right.T
    real = (left.real * coefficients) @ right.real.T - (left.imag * coefficients) @ right.imag.T
    return scaling * real


@functools.lru_cache(maxsize=64)
def basis_factors(
    kind: str, out_features: int, in_features: int, n_frequency: int, seed: int, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The columns of B1 and B2 that n entries use, [out, n] and [in, n], float32 (fourier: complex64).

    The entries are those of FourierFT: of B1 their rows, of B2 their columns.
    """
    rows, columns = uniform_entries(out_features, in_features, n_frequency, seed)
    left, right = basis_matrix(kind, out_features, seed), basis_matrix(kind, in_features, seed + 1)
    return left[:, rows].to(device), right[:, columns].to(device)


def basis_matrix(kind: str, size: int, seed: int) -> Tensor:
    """A frozen basis, its vectors as columns, [size, size].

    Its columns have norm 1 / sqrt(size) if complex, 2 ** -0.25 / sqrt(size) if real (random: on average), so that
    Re(b1 b2^T) has the Frobenius norm 1 / sqrt(2 out in) in each, but for the real columns of the transform.
    """
    if kind == "fourier":
        index = torch.arange(size)
        turns = torch.outer(index, index) % size / size
        return torch.polar(torch.full_like(turns, 1 / size), 2 * math.pi * turns)
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    scale = 2**-0.25 / math.sqrt(size)
    if kind == "random":
        return drawn * (scale / math.sqrt(size))
    q, r = torch.linalg.qr(drawn)
    return q * r.diagonal().sign() * scale  # the signs make it a uniform draw

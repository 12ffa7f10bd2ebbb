"""A module to hand to torch's own tools."""

from __future__ import annotations

import torch
from torch import nn

from fourierft import SpectralBasis, adapted_linear


class Adapted(nn.Module):
    """A frozen linear layer with trained coefficients."""

    def __init__(self, basis: SpectralBasis, view: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(basis.out_features, basis.in_features), requires_grad=False)
        self.bias = nn.Parameter(torch.randn(basis.out_features), requires_grad=False)
        self.coefficients = nn.Parameter(torch.randn(basis.n_frequency))
        self.basis, self.view = basis, view

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return adapted_linear(x, self.weight, self.bias, self.coefficients, self.basis, 20.0, self.view)

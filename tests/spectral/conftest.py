"""Layers of odd shapes, and their truth from the cosine sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from fourierft import SpectralBasis, uniform_basis
from fourierft.spectral import dispatch, held, kernels, prepared
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.reference import reference_coefficient_gradient, reference_delta_weight

SHAPES = [  # out, in, n
    (1, 1, 1),
    (1, 2, 2),
    (2, 1, 1),
    (1, 9, 4),
    (9, 1, 4),
    (7, 13, 91),  # every entry
    (13, 7, 1),
    (16, 12, 192),  # every entry
    (31, 37, 60),
    (60, 63, 120),
    (63, 60, 120),
    (64, 64, 128),
    (96, 8, 50),
    (8, 96, 50),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


PATHS = ["torch", "compiled"] if load_kernel() else ["torch"]  # without a C compiler, torch is the only path


@dataclass
class Layer:
    """A weight, its basis and one set of coefficients, float64."""

    basis: SpectralBasis
    weight: torch.Tensor
    bias: torch.Tensor
    coefficients: torch.Tensor
    scaling: float

    def true_delta(self, coefficients: torch.Tensor | None = None) -> torch.Tensor:
        """The dense update by the cosine sum, float64 [out, in]."""
        coefficients = self.coefficients if coefficients is None else coefficients.detach()
        basis = self.basis
        return reference_delta_weight(coefficients, basis.entries, basis.out_features, basis.in_features, self.scaling)

    def true_coefficient_gradient(self, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Gradient of the coefficients by the cosine sum, float64 [n], from grad [..., out] and x [..., in]."""
        grad_weight = grad.flatten(0, -2).double().T @ x.detach().flatten(0, -2).double()
        return reference_coefficient_gradient(grad_weight, self.basis.entries, self.scaling)


def make_layer(out_features: int, in_features: int, n_frequency: int, seed: int = 5) -> Layer:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Layer(
        basis=uniform_basis(out_features, in_features, n_frequency, seed),
        weight=normal(out_features, in_features),
        bias=normal(out_features),
        coefficients=normal(n_frequency),
        scaling=float(out_features * in_features) ** 0.5,
    )


@pytest.fixture(name="make_layer")
def _make_layer() -> Callable[..., Layer]:
    return make_layer


@pytest.fixture(params=SHAPES, ids=lambda shape: "{}x{}-n{}".format(*shape))
def layer(request: pytest.FixtureRequest) -> Layer:
    """A layer of each odd shape in turn."""
    return make_layer(*request.param)


@pytest.fixture
def small() -> Layer:
    """A layer small enough for numerical derivatives."""
    return make_layer(5, 6, 9)


@pytest.fixture
def assert_close() -> Callable[..., None]:
    """Compare with the largest expected number as the unit; the tolerance follows the dtype found."""

    def check(found: torch.Tensor, expected: torch.Tensor, tolerance: float | None = None) -> None:
        assert found.shape == expected.shape
        if found.numel() == 0:
            return
        allowed = TOLERANCE[found.dtype] if tolerance is None else tolerance
        unit = expected.double().abs().max()
        error = (found.detach().double() - expected.detach().double()).abs().max()
        assert error <= allowed * unit, f"off by {error:.3e}, {error / unit:.3e} of the largest number, {unit:.3e}"

    return check


@pytest.fixture
def torch_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the compiled kernel."""
    for module in (prepared, kernels):
        monkeypatch.setattr(module, "compiled_update", lambda *_: None)
    for module in (dispatch, held):
        monkeypatch.setattr(module, "is_served", lambda *_: False)


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    """Each way to the token view that this machine has, in turn."""
    if request.param == "torch":
        request.getfixturevalue("torch_path")
    return request.param

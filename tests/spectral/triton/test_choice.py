"""At first use a kernel is compared with torch and timed; what is wrong or slow is left out."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from fourierft.spectral import SpectralBasis, uniform_entries
from fourierft.spectral.triton import triton_update
from fourierft.spectral.triton.choice import (
    SWITCH,
    Comparison,
    TorchUpdate,
    compare,
    is_there,
    judge,
    make_update,
    serves,
)

BASIS = SpectralBasis(24, 18, uniform_entries(24, 18, 40, 3))
CPU = torch.device("cpu")


class Wrong(TorchUpdate):
    """A kernel whose gradient of the coefficients has another sign."""

    def gradients(self, grad: Tensor, x: Tensor, coefficients: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        of_x, of_coefficients = super().gradients(grad, x, coefficients, scaling)
        return of_x, -of_coefficients


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_equal_is_used_and_what_has_a_wrong_sign_is_told(dtype: torch.dtype) -> None:
    same, other = compare(TorchUpdate(BASIS), BASIS, dtype, CPU), compare(Wrong(BASIS), BASIS, dtype, CPU)
    assert same.error == 0
    assert other.error == pytest.approx(2, rel=1e-4)
    with pytest.warns(UserWarning, match=r"24 x 18, n_frequency=40, .* off torch's transforms.*FOURIERFT_KERNEL=torch"):
        assert not judge(other._replace(seconds=0.0), BASIS, dtype)


def test_a_kernel_that_is_not_a_number_is_not_used() -> None:
    class Broken(TorchUpdate):
        def product(self, x: Tensor, coefficients: Tensor, scaling: float) -> Tensor:
            return super().product(x, coefficients, scaling) * float("nan")

    with pytest.warns(UserWarning, match="off torch"):
        assert not judge(compare(Broken(BASIS), BASIS, torch.float32, CPU), BASIS, torch.float32)


def test_a_kernel_that_does_not_run_here_is_told_and_torch_is_used() -> None:
    class Narrow(TorchUpdate):
        def product(self, x: Tensor, coefficients: Tensor, scaling: float) -> Tensor:
            raise RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376\nmore")

    with pytest.warns(UserWarning, match=r"24 x 18.*can't be run here \(out of resource: .* 101376\), and torch's"):
        assert not serves(Narrow(BASIS), BASIS, torch.float32, CPU)


@pytest.mark.parametrize(("seconds", "used"), [(1.0, True), (3.0, False)])
def test_a_slower_kernel_is_left_out_without_a_warning(seconds: float, used: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge(Comparison(1e-7, seconds, 2.0), BASIS, torch.float32) is used


def test_only_float32_arithmetic_has_a_kernel_and_the_environment_can_rule_it_out(monkeypatch) -> None:
    assert triton_update(BASIS, torch.float64, torch.zeros(1, 1, 18)) is None
    monkeypatch.setenv(SWITCH, "torch")
    assert not is_there()


def test_a_length_without_a_plan_has_no_kernel() -> None:
    assert make_update(SpectralBasis(257, 18, uniform_entries(257, 18, 4, 3)), CPU) is None

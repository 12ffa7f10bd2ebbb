"""Coefficients go from one scaling to another with one rounding, and the product stays."""

from __future__ import annotations

import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.format.scaling import rescaled

VALUES = torch.randn(3, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("scaling", "wanted"), [(150.0, 1.0), (0.1, 3.7), (-2.0, 1e-3), (0.0, 5.0)])
def test_the_product_stays_within_one_rounding(dtype: torch.dtype, scaling: float, wanted: float) -> None:
    values = VALUES.to(dtype)
    found = rescaled(values, scaling, wanted)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    error = (found.double() * wanted - values.double() * scaling).abs()
    assert (error <= 1.001 * torch.finfo(found.dtype).eps / 2 * (values.double() * scaling).abs() + 1e-15).all()


@pytest.mark.parametrize("scaling", [0.0, 1.0, 150.0])
def test_numbers_of_one_scaling_stay_as_they_are(scaling: float) -> None:
    values = VALUES.bfloat16()
    assert rescaled(values, scaling, scaling) is values


def test_no_coefficients_make_up_for_a_scaling_of_0() -> None:
    with pytest.raises(ConfigError, match=r"scaling=150 cannot be converted to scaling=0.*give the adapter another"):
        rescaled(VALUES, 150.0, 0.0)

"""The choice of a view is about speed, and about never rounding an update away."""

from __future__ import annotations

import pytest
import torch

from fourierft import uniform_basis
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.dispatch import choose_view, prefers_dense_gradient

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("size", "tokens"), [(8, 10_000), (384, 1), (768, 4096)])
def test_a_low_precision_base_never_gets_the_one_product_view(dtype: torch.dtype, size: int, tokens: int) -> None:
    assert choose_view(tokens, uniform_basis(size, size, 8, 0), dtype, CPU) == "token"


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_tokens_on_a_small_layer_build_the_weight(dtype: torch.dtype) -> None:
    assert choose_view(4096, uniform_basis(384, 384, 1000, 0), dtype, CPU) == "weight"


@pytest.mark.parametrize("size", [768, 2048, 4096])
def test_a_decoded_token_never_builds_the_weight(size: int) -> None:
    assert choose_view(1, uniform_basis(size, size, 1000, 0), torch.float32, CPU) == "token"


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("out_features", "in_features"), [(1, 4096), (4096, 1), (384, 384), (1536, 4096)])
def test_more_tokens_never_turn_the_choice_back_to_the_token_view(out_features: int, in_features: int) -> None:
    basis = uniform_basis(out_features, in_features, 300, 0)
    views = [choose_view(2**k, basis, torch.float32, CPU) for k in range(20)]
    assert views == sorted(views)  # "token" ... "token", "weight" ... "weight"


@pytest.mark.parametrize("kernel", [kernel for kernel in [load_kernel()] if kernel])
def test_a_width_with_a_large_prime_turns_to_the_weight_view_earlier(kernel: object) -> None:
    smooth, prime = (uniform_basis(1152, width, 340, 0) for width in (4320, 16 * 269))
    assert choose_view(10_000, smooth, torch.float32, CPU) == "token"
    assert choose_view(10_000, prime, torch.float32, CPU) == "weight"


def test_a_gpu_has_costs_of_its_own() -> None:
    """There a product is so cheap that few layers are worth a weight; a length without a kernel turns to it earlier."""
    with_kernel, without = (uniform_basis(384, width, 1000, 0) for width in (384, 2 * 257))
    assert choose_view(4096, with_kernel, torch.float32, CPU) == "weight"
    assert choose_view(500, with_kernel, torch.float32, GPU) == "token"
    assert choose_view(500, without, torch.float32, GPU) == "weight"
    assert choose_view(4096, uniform_basis(4096, 4096, 340, 0), torch.bfloat16, GPU) == "token"


def test_no_tokens_have_a_view_too() -> None:
    assert choose_view(0, uniform_basis(8, 8, 4, 0), torch.float32, CPU) in ("token", "weight")


@pytest.mark.usefixtures("torch_path")
def test_a_dense_gradient_is_formed_where_gathering_costs_more() -> None:
    assert prefers_dense_gradient(1024, uniform_basis(384, 384, 6144, 0), torch.float32, CPU)


@pytest.mark.usefixtures("path")
def test_a_dense_gradient_of_a_wide_layer_is_never_formed_for_a_few_entries() -> None:
    assert not prefers_dense_gradient(512, uniform_basis(4096, 4096, 1000, 0), torch.float32, CPU)

"""The rule behind scaling="auto"."""

import math

import peft
import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, auto_scaling, scaling


def test_auto_scaling_is_the_documented_formula():
    assert scaling.KAPPA == 16
    expected = 16 * 768 * 3072 / math.sqrt(500 * ((math.sqrt(768) + math.sqrt(3072)) ** 2 + 500))
    assert auto_scaling(768, 3072, 1000) == pytest.approx(expected, rel=1e-14)


SHAPES = [(192, 192), (96, 256), (256, 64)]


def norm_of_a_step(signs: torch.Tensor, places: torch.Tensor, out_features: int, in_features: int) -> float:
    """Spectral norm of the update that signs at some places of a spectrum make."""
    spectrum = torch.zeros(out_features, in_features, dtype=torch.float64)
    spectrum.view(-1)[places] = signs.double()
    update = torch.fft.ifft2(spectrum).real * auto_scaling(out_features, in_features, len(places))
    return float(torch.linalg.matrix_norm(update, 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [200, 500, 1000])
def test_a_step_of_random_signs_moves_the_spectral_norm_by_at_most_about_kappa(shape, n):
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(shape[0] * shape[1], generator=generator)[:n]
    norm = norm_of_a_step(torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1.0, places, *shape)
    share = 1 / math.sqrt(1 + n / 2 / (math.sqrt(shape[0]) + math.sqrt(shape[1])) ** 2)
    assert 0.75 * share < norm / 16 < 1.4 * share


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [200, 1000, 6144, None])
def test_a_step_along_a_gradient_of_rank_one_moves_the_spectral_norm_by_about_kappa(shape, n):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, generator=generator, dtype=torch.float64) for size in shape)
    places = torch.randperm(shape[0] * shape[1], generator=generator)[:n]
    gradient = torch.outer(torch.fft.fft(left), torch.fft.fft(right)).real.flatten()[places]
    assert 0.7 < norm_of_a_step(gradient.sign(), places, *shape) / 16 < 1.4


def test_auto_is_computed_for_each_layer_and_a_number_is_the_same_for_all(make_mlp):
    targets = ["square", "tall", "wide"]
    config = FourierFTConfig(n_frequency=9, target_modules=targets, n_frequency_pattern={"wide": 20})
    layers = peft.get_peft_model(make_mlp(), config).base_model.model
    assert layers.square.fourierft_scaling["default"] == auto_scaling(16, 16, 9)
    assert layers.tall.fourierft_scaling["default"] == auto_scaling(24, 16, 9)
    assert layers.wide.fourierft_scaling["default"] == auto_scaling(10, 24, 20)
    layers = peft.get_peft_model(
        make_mlp(), FourierFTConfig(n_frequency=9, target_modules=targets, scaling=3)
    ).base_model.model
    assert {layers.get_submodule(t).fourierft_scaling["default"] for t in targets} == {3.0}


def test_a_stock_config_that_says_auto_is_told_to_use_ours(make_mlp):
    with pytest.raises(ConfigError, match=r"use fourierft\.FourierFTConfig for scaling='auto'"):
        peft.get_peft_model(make_mlp(), peft.FourierFTConfig(scaling="auto", target_modules=["square"], n_frequency=3))

"""The rule behind scaling="auto"."""

import math

import peft
import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, auto_scaling, scaling


def test_auto_scaling_is_the_documented_formula():
    assert scaling.KAPPA == 16
    expected = 16 * 768 * 3072 / ((math.sqrt(768) + math.sqrt(3072)) * math.sqrt(1000 / 2))
    assert auto_scaling(768, 3072, 1000) == pytest.approx(expected, rel=1e-14)


def test_a_step_of_one_learning_rate_moves_the_spectral_norm_by_about_kappa_learning_rates():
    generator = torch.Generator().manual_seed(0)
    for out_features, in_features, n in ((192, 192, 500), (96, 256, 1000), (256, 64, 200)):
        spectrum = torch.zeros(out_features, in_features)
        places = torch.randperm(out_features * in_features, generator=generator)[:n]
        spectrum.view(-1)[places] = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1.0
        update = torch.fft.ifft2(spectrum).real * auto_scaling(out_features, in_features, n)
        assert 0.7 * 16 < torch.linalg.matrix_norm(update, 2) < 1.4 * 16


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

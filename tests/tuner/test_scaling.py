"""The rule behind scaling="auto"."""

import math
from typing import Any

import peft
import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, auto_scaling
from fourierft.tuner.scaling import find_width


def test_auto_scaling_is_the_documented_formula():
    width = math.sqrt(768) + math.sqrt(3072)
    narrow = 200 * 768 * 3072 / math.sqrt(10 * 500 * (width**2 + 10 * 500))
    assert auto_scaling(768, 3072, 1000) == pytest.approx(narrow, rel=1e-14)
    assert auto_scaling(768, 3072, 1000, base_width=300) == pytest.approx(narrow, rel=1e-14)
    assert auto_scaling(768, 3072, 1000, base_width=768) == pytest.approx(narrow / math.sqrt(8), rel=1e-14)
    assert auto_scaling(768, 3072, 1000, base_width=768, rule=2) == pytest.approx(narrow, rel=1e-14)


@pytest.mark.parametrize("width", [576, 896, 1536, 4096])
def test_alpha_of_square_layers_hardly_depends_on_the_width(width):
    assert auto_scaling(width, width, 340, width) / auto_scaling(384, 384, 340, 384) == pytest.approx(1.25, rel=0.2)


def test_width_of_a_model_is_the_input_size_of_most_of_its_linear_layers(make_llama, make_gpt2):
    assert find_width(make_llama()) == 32
    config = FourierFTConfig(n_frequency=9, target_modules="all-linear")
    assert find_width(peft.get_peft_model(make_llama(), config)) == 32
    assert find_width(make_gpt2()) == make_gpt2().config.n_embd
    assert find_width(torch.nn.Conv2d(3, 3, 3)) is None


@pytest.mark.parametrize(
    ("sizes", "more", "message"),
    [
        ((0, 32, 9), {}, "a layer of 0 x 32 with n_frequency=9"),
        ((32, 32, 0), {}, "n_frequency=0"),
        ((32, 32, 9), {"base_width": -3}, "a model -3 wide"),
        ((32, 32, 9), {"rule": 7}, "rule=7 is not a scale rule; use one of 1, 2, 3"),
    ],
)
def test_wrong_sizes_and_rules_are_told(sizes, more, message):
    with pytest.raises(ConfigError, match=message):
        auto_scaling(*sizes, **more)


def test_layers_get_the_scaling_of_their_models_width():
    wide = torch.nn.Sequential(torch.nn.Linear(1536, 16), torch.nn.Linear(16, 1536))
    adapted = peft.get_peft_model(wide, FourierFTConfig(n_frequency=9, target_modules=["0", "1"])).base_model.model
    assert adapted[0].fourierft_scaling["default"] == pytest.approx(auto_scaling(16, 1536, 9) / 8, rel=1e-14)
    assert adapted[1].fourierft_scaling["default"] == pytest.approx(auto_scaling(1536, 16, 9) / 8, rel=1e-14)


def test_adapters_made_under_rule_1_keep_its_formula():
    expected = 16 * 768 * 3072 / math.sqrt(500 * ((math.sqrt(768) + math.sqrt(3072)) ** 2 + 500))
    assert auto_scaling(768, 3072, 1000, rule=1) == pytest.approx(expected, rel=1e-14)


SHAPES = [(192, 192), (96, 256), (256, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [200, 1000, 6144])
def test_ten_steps_are_held_at_200_times_the_rate_noise_and_direction_together(shape, n):
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(shape[0] * shape[1], generator=generator)[:n]

    def update(signs):
        spectrum = torch.zeros(shape, dtype=torch.float64)
        spectrum.view(-1)[places] = signs.double()
        return torch.fft.ifft2(spectrum).real * auto_scaling(shape[0], shape[1], n)

    walk = sum(torch.randint(0, 2, (n,), generator=generator) * 2 - 1 for _ in range(10))
    noise = float(torch.linalg.matrix_norm(update(walk), 2))
    left, right = (torch.randn(size, generator=generator, dtype=torch.float64) for size in shape)
    gradient = torch.outer(torch.fft.fft(left), torch.fft.fft(right)).real.flatten()[places]
    along = float((left / left.norm()) @ update(10 * gradient.sign()) @ (right / right.norm()))
    assert 0.7 < math.hypot(noise, along) / 200 < 1.3


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
    automatic: Any = "auto"
    with pytest.raises(ConfigError, match=r"use fourierft\.FourierFTConfig for scaling='auto'"):
        peft.get_peft_model(
            make_mlp(), peft.FourierFTConfig(scaling=automatic, target_modules=["square"], n_frequency=3)
        )

"""Which entries an adapter gets."""

from types import SimpleNamespace

import peft
import pytest
import torch

from fourierft.errors import ConfigError
from fourierft.spectral import Draw, bandpass_entries
from fourierft.tuner import FourierFTConfig


def test_a_uniform_draw_is_the_permutation_of_stock_peft():
    flat = torch.randperm(24 * 16, generator=torch.Generator().manual_seed(7))[:50]
    expected = torch.stack([flat // 16, flat % 16])
    for config in (FourierFTConfig(random_loc_seed=7), peft.FourierFTConfig(random_loc_seed=7)):
        assert torch.equal(Draw.of(config).basis(24, 16, 50).entries, expected)


def test_a_bandpass_draw_is_that_of_the_spectral_core():
    config = SimpleNamespace(random_loc_seed=7, center=5.0, width=2)
    expected = bandpass_entries(24, 16, 50, 7, 5.0, 2)
    assert torch.equal(Draw.of(config).basis(24, 16, 50).entries, expected)


@pytest.mark.parametrize("band", [None, (4.0, 3.0)])
def test_fewer_entries_of_one_draw_are_a_prefix_of_more(band):
    draw = Draw(3, band)
    assert torch.equal(draw.basis(20, 30, 17).entries, draw.basis(20, 30, 40).entries[:, :17])


@pytest.mark.parametrize("band", [None, (4.0, 3.0)])
def test_layers_of_one_shape_share_one_basis(band):
    assert Draw(3, band).basis(20, 30, 17) is Draw(3, band).basis(20, 30, 17)


@pytest.mark.parametrize("band", [None, (4.5, 3.0)])
def test_entries_are_on_the_cpu_even_if_tensors_default_to_meta(band):
    with torch.device("meta"):
        basis = Draw(99, band).basis(21, 31, 17)
    assert basis.entries.device.type == "cpu"


def test_a_config_without_seed_is_refused():
    with pytest.raises(ConfigError, match="random_loc_seed=None"):
        Draw.of(peft.FourierFTConfig(random_loc_seed=None))

"""Adapted convolutions and embeddings against the cosine sum in float64, and what stock PEFT makes of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn import functional as F

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig
from fourierft.tuner.reshaped import ReshapedLayer

CONVOLUTIONS: dict[str, tuple[type[nn.Module], dict[str, Any], tuple[int, ...]]] = {
    "plain": (nn.Conv2d, {"kernel_size": 3, "padding": 1}, (7, 6)),
    "strided": (nn.Conv2d, {"kernel_size": (2, 3), "stride": 2, "dilation": (1, 2), "bias": False}, (8, 9)),
    "grouped": (nn.Conv2d, {"kernel_size": 3, "groups": 2}, (7, 6)),
    "circular": (nn.Conv2d, {"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, (5, 6)),
    "pointwise": (nn.Conv2d, {"kernel_size": 1}, (4, 3)),
    "line": (nn.Conv1d, {"kernel_size": 4}, (9,)),
    "volume": (nn.Conv3d, {"kernel_size": 2}, (3, 4, 5)),
}
SETTINGS: dict[str, Any] = {"scaling": 60.0, "init_weights": False}


class Scaled(nn.Embedding):
    """An embedding that multiplies what it looks up, as Gemma's do."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return 3.0 * super().forward(ids)


def convolution(kind: str, dtype: torch.dtype = torch.float32) -> tuple[ReshapedLayer, torch.Tensor]:
    layer_class, options, size = CONVOLUTIONS[kind]
    torch.manual_seed(1)
    layer = ReshapedLayer(layer_class(4, 6, **options).to(dtype), "default", 12, FourierFTConfig(**SETTINGS))
    return layer, torch.randn(2, 4, *size, dtype=dtype)


def summed(layer: ReshapedLayer, update: Any, x: torch.Tensor) -> torch.Tensor:
    """The base layer in float64, its weight W + dW."""
    base: Any = copy.deepcopy(layer.get_base_layer()).double()
    base.weight.data += update(layer).view(base.weight.shape)
    return base(x.double() if x.is_floating_point() else x)


@pytest.mark.parametrize("resting", [True, False])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolution_has_the_weight_plus_the_cosine_sum(kind: str, resting: bool, update: Any) -> None:
    layer, x = convolution(kind)
    with torch.set_grad_enabled(not resting):
        torch.testing.assert_close(layer(x).double(), summed(layer, update, x), rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            layer.fourierft_spectrum["default"].mul_(2.0)  # what was kept is not used again
        torch.testing.assert_close(layer(x).double(), summed(layer, update, x), rtol=1e-5, atol=1e-5)


def test_a_single_coefficient_of_a_convolution_is_a_wave_over_its_flat_kernels() -> None:
    layer, _ = convolution("plain", torch.float64)
    weight = layer.get_delta_weight("default")
    basis, coefficients = layer.fourierft_basis["default"], layer.fourierft_spectrum["default"]
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(36.0), indexing="ij")
    expected = sum(
        60.0 / 216 * c * torch.cos(2 * torch.pi * (rows * u / 6 + columns * v / 36))
        for c, u, v in zip(coefficients, *basis.entries, strict=True)
    )
    assert weight.shape == (6, 4, 3, 3)
    torch.testing.assert_close(weight.float(), expected.detach().view(6, 4, 3, 3).float(), rtol=1e-4, atol=1e-5)


def test_gradient_of_a_convolution_is_that_of_its_dense_weight() -> None:
    layer, x = convolution("plain", torch.float64)
    target = torch.randn_like(layer(x))
    (layer(x) * target).sum().backward()
    base: Any = copy.deepcopy(layer.get_base_layer()).requires_grad_(True)
    (F.conv2d(x, base.weight, base.bias, padding=1) * target).sum().backward()
    spectrum = 60.0 * torch.fft.fft2(base.weight.grad.view(6, 36)).conj().real / 216
    rows, columns = layer.fourierft_basis["default"].entries
    expected = spectrum[rows, columns]
    torch.testing.assert_close(layer.fourierft_spectrum["default"].grad, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [nn.Embedding, Scaled])
def test_embedding_has_the_weight_plus_the_cosine_sum(kind: type[nn.Embedding], update: Any) -> None:
    torch.manual_seed(1)
    layer = ReshapedLayer(kind(11, 5), "default", 12, FourierFTConfig(**SETTINGS))
    ids = torch.tensor([[0, 10, 3], [3, 3, 7]])
    torch.testing.assert_close(layer(ids).double(), summed(layer, update, ids), rtol=1e-5, atol=1e-5)
    layer(ids).sum().backward()
    assert layer.fourierft_spectrum["default"].grad.abs().sum() > 0


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_merged_weight_equals_forward_and_comes_back(kind: str) -> None:
    layer, x = convolution(kind)
    base: Any = layer.get_base_layer()
    weight, before = base.weight.clone(), layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(base(x), before, rtol=1e-5, atol=1e-5)
    layer.unmerge()
    torch.testing.assert_close(base.weight, weight, rtol=1e-6, atol=1e-6)
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), base(x))


def test_half_precision_keeps_updates_below_its_last_place(update: Any) -> None:
    layer, x = convolution("plain", torch.bfloat16)
    layer.fourierft_spectrum["default"] = nn.Parameter(layer.fourierft_spectrum["default"].float() * 1e-3)
    wide = copy.deepcopy(layer.get_base_layer()).double()
    exact = summed(layer, update, x) - wide(x.double())
    kept = layer.get_delta_weight("default").view(6, 36)
    torch.testing.assert_close(kept.double(), update(layer), rtol=1e-4, atol=1e-9)
    assert layer(x).dtype == torch.bfloat16
    base: Any = layer.get_base_layer()
    with torch.no_grad():
        base.weight.zero_()
        base.bias.zero_()  # so that what is left is the update alone
        assert (layer(x).double() - exact).norm() < 1e-2 * exact.norm()


def test_autocast_gives_the_base_layers_dtype(update: Any) -> None:
    layer, x = convolution("plain")
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), summed(layer, update, x), rtol=3e-2, atol=3e-2)


def test_a_different_adapter_in_every_row_is_refused() -> None:
    layer, x = convolution("plain")
    with pytest.raises(ConfigError, match="a Conv2d cannot have a different adapter in every row"):
        layer(x, adapter_names=["default", "default"])
    assert not layer.supports_lora_conversion()


class Picture(nn.Module):
    """A convolution, an embedding of its place and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.place, self.head = nn.Conv2d(3, 6, 3), nn.Embedding(8, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.conv(x).mean((2, 3)) + self.place(ids)))


INPUTS = (torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(3)), torch.tensor([1, 6]))


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments.*fourierft")  # the record stock PEFT skips
@pytest.mark.parametrize("scaling", ["auto", 60.0])
def test_checkpoint_comes_back_whole_and_stops_stock_peft(
    scaling: Any, tmp_path: Any, randomise: Any, stock: Any
) -> None:
    targets = ["conv", "place", "head"]
    model = get_peft_model(Picture(), FourierFTConfig(n_frequency=10, scaling=scaling, target_modules=targets))
    torch.testing.assert_close(model(*INPUTS), Picture()(*INPUTS))
    randomise(model)
    expected = model.eval()(*INPUTS)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(PeftModel.from_pretrained(Picture(), tmp_path)(*INPUTS), expected, rtol=1e-5, atol=1e-6)
    merged = PeftModel.from_pretrained(Picture(), tmp_path).merge_and_unload()
    assert type(merged.conv) is nn.Conv2d
    torch.testing.assert_close(merged(*INPUTS), expected, rtol=1e-5, atol=1e-6)
    with stock(), pytest.raises(TypeError, match=r"Target module .* is not supported"):
        PeftModel.from_pretrained(Picture(), tmp_path)


def test_training_lowers_the_loss_of_convolution_and_embedding(randomise: Any) -> None:
    model = get_peft_model(Picture(), FourierFTConfig(n_frequency=40, target_modules=["conv", "place"]))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(30):
        losses.append(F.cross_entropy(model(*INPUTS), torch.tensor([0, 1])))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]

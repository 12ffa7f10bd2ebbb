"""Adapted convolutions and embeddings against the cosine sum in float64, and what stock PEFT makes of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from fourierft.errors import ConfigError
from fourierft.spectral.reference import reference_delta_weight
from fourierft.tuner import FourierFTConfig
from fourierft.tuner.embedding import EmbeddingLayer
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
    """An embedding that multiplies what it looks up, without saying by what."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * torch.tensor(3.001).to(self.weight.dtype)


EMBEDDINGS: dict[str, tuple[type[nn.Embedding], dict[str, Any]]] = {
    "words": (nn.Embedding, {}),
    "padded": (nn.Embedding, {"padding_idx": 3}),
    "scaled": (Scaled, {"padding_idx": 10}),
}
KINDS = (*CONVOLUTIONS, *EMBEDDINGS)


def make(kind: str, dtype: torch.dtype = torch.float32) -> tuple[ReshapedLayer, torch.Tensor]:
    torch.manual_seed(1)
    config = FourierFTConfig(**SETTINGS)
    if kind in EMBEDDINGS:
        embedding_class, options = EMBEDDINGS[kind]
        ids = torch.tensor([[0, 10, 3], [3, 3, 7]])
        return EmbeddingLayer(embedding_class(11, 5, **options).to(dtype), "default", 12, config), ids
    layer_class, options, size = CONVOLUTIONS[kind]
    layer = ReshapedLayer(layer_class(4, 6, **options).to(dtype), "default", 12, config)
    return layer, torch.randn(2, 4, *size, dtype=dtype)


def summed(layer: ReshapedLayer, x: torch.Tensor, names: tuple[str, ...] = ("default",)) -> tuple[torch.Tensor, ...]:
    """In float64, the base layer with the weight W + dW by the cosine sum, and the coefficients it is a function of."""
    base: Any = copy.deepcopy(layer.get_base_layer()).double()
    coefficients = [layer.fourierft_spectrum[name].detach().double().requires_grad_(True) for name in names]
    weight = base.weight.detach()
    for name, values in zip(names, coefficients, strict=True):
        entries, scaling = layer.fourierft_basis[name].entries, layer.fourierft_scaling[name]
        update = reference_delta_weight(values, entries, layer.out_features, layer.in_features, scaling)
        if getattr(base, "padding_idx", None) is not None:
            update = torch.cat([update[: base.padding_idx], torch.zeros(1, 5), update[base.padding_idx + 1 :]])
        weight = weight + update.view(weight.shape)
    y = functional_call(base, {"weight": weight}, (x.double() if x.is_floating_point() else x,))
    return y, *coefficients


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_layer_has_the_weight_plus_the_cosine_sum(kind: str, eager: bool) -> None:
    layer, x = make(kind)
    with torch.set_grad_enabled(not eager):
        torch.testing.assert_close(layer(x).double(), summed(layer, x)[0], rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            layer.fourierft_spectrum["default"].mul_(2.0)  # what was kept is not used again
        torch.testing.assert_close(layer(x).double(), summed(layer, x)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_cosine_sum(kind: str) -> None:
    layer, x = make(kind)
    expected, coefficients = summed(layer, x)
    target = torch.randn_like(expected)
    (layer(x).double() * target).sum().backward()
    (expected * target).sum().backward()
    torch.testing.assert_close(
        layer.fourierft_spectrum["default"].grad.double(), coefficients.grad, rtol=1e-4, atol=1e-4
    )


def test_two_adapters_add_up() -> None:
    layer, x = make("plain")
    layer.update_layer("other", 7, FourierFTConfig(**SETTINGS, random_loc_seed=1))
    layer.set_adapter(["default", "other"])
    torch.testing.assert_close(layer(x).double(), summed(layer, x, ("default", "other"))[0], rtol=1e-5, atol=1e-5)


def test_a_single_coefficient_of_a_convolution_is_a_wave_over_its_flat_kernels() -> None:
    layer, _ = make("plain", torch.float64)
    weight = layer.get_delta_weight("default")
    basis, coefficients = layer.fourierft_basis["default"], layer.fourierft_spectrum["default"]
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(36.0), indexing="ij")
    expected = sum(
        60.0 / 216 * c * torch.cos(2 * torch.pi * (rows * u / 6 + columns * v / 36))
        for c, u, v in zip(coefficients, *basis.entries, strict=True)
    )
    assert weight.shape == (6, 4, 3, 3)
    torch.testing.assert_close(weight.float(), expected.detach().view(6, 4, 3, 3).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weight_equals_forward_and_comes_back(kind: str) -> None:
    layer, x = make(kind)
    base: Any = layer.get_base_layer()
    weight, before = base.weight.clone(), layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(base(x), before, rtol=1e-5, atol=1e-5)
    layer.unmerge()
    torch.testing.assert_close(base.weight, weight, rtol=1e-6, atol=1e-6)
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), base(x))


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("kind", ["plain", "scaled"])
def test_half_precision_keeps_updates_below_its_last_place(kind: str, eager: bool) -> None:
    layer, x = make(kind, torch.bfloat16)
    layer.fourierft_spectrum["default"] = nn.Parameter(layer.fourierft_spectrum["default"].float() * 1e-3)
    base: Any = layer.get_base_layer()
    exact = summed(layer, x)[0] - copy.deepcopy(base).double()(x.double() if x.is_floating_point() else x)
    with torch.set_grad_enabled(not eager):
        assert layer(x).dtype == torch.bfloat16
        with torch.no_grad():
            for parameter in base.parameters():
                parameter.zero_()  # so that what is left is the update alone
        assert (layer(x).double() - exact).norm() < 1e-2 * exact.norm()


@pytest.mark.parametrize("kind", ["plain", "scaled"])
def test_an_adapter_of_zeros_changes_nothing_in_half_precision(kind: str) -> None:
    layer, x = make(kind, torch.bfloat16)
    nn.init.zeros_(layer.fourierft_spectrum["default"])
    torch.testing.assert_close(layer(x), layer.get_base_layer()(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["plain", "words"])
def test_autocast_gives_the_base_layers_dtype(kind: str) -> None:
    layer, x = make(kind)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert y.dtype == layer.get_base_layer()(x).dtype
    torch.testing.assert_close(y.double(), summed(layer, x)[0], rtol=3e-2, atol=3e-2)


def test_a_different_adapter_in_every_row_is_refused() -> None:
    layer, x = make("plain")
    with pytest.raises(ConfigError, match="of type Conv2d cannot have a different adapter in every row"):
        layer(x, adapter_names=["default", "default"])
    assert not layer.supports_lora_conversion()


class Standardised(nn.Conv2d):
    """A convolution that is not linear in its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


class Normed(nn.Embedding):
    """An embedding that is not linear in its weight."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.norm = nn.LayerNorm(5)


def lora(layer: nn.Module) -> Any:
    return get_peft_model(nn.Sequential(layer), LoraConfig(target_modules=["0"])).base_model.model[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: Standardised(4, 5, 3), "Standardised cannot be adapted if it may do more with its weight than a conv"),
        (lambda: Normed(), "Normed cannot be adapted if it does more with its weight than look rows of it up"),
        (lambda: nn.Embedding(4, 5, max_norm=1.0), "Embedding cannot be adapted if it does more with its weight"),
        (lambda: nn.Embedding(4, 5, sparse=True), "Embedding cannot be adapted if it does more with its weight"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 5, 3)), "if it does not hold its weight as floats"),
        (lambda: lora(nn.Conv2d(4, 5, 3)), "of type Conv2d cannot be adapted if it has an adapter of another kind"),
    ],
)
def test_what_an_update_would_not_add_up_in_is_refused(layer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReshapedLayer(layer(), "default", 3, FourierFTConfig(**SETTINGS))


@pytest.mark.parametrize("kind", ["plain", "words"])
def test_a_layer_compiles_without_a_graph_break(kind: str) -> None:
    layer, x = make(kind)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-6)


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
    with stock(), pytest.raises(ValueError, match="convolutions or embeddings, which only the package fourierft"):
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

"""Layers of quantisers that PEFT has no backend for train and run over their dequantised weights, and do not merge.

`Packed` is a class of its own with codes, as those of HQQ and GPTQ are. `Coded` is a tensor that ignores what is
written to it, as those of quanto are. `Scaled` has floats of 8 bits and a scale apart, as FP8 checkpoints do. The truth
is a layer of floats with the dequantised weight and the cosine sum.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fourierft.errors import ConfigError
from fourierft.spectral.reference import reference_coefficient_gradient
from fourierft.tuner import FourierFTConfig

OUT, IN, SCALE = 6, 9, 0.05
KINDS = ("packed", "coded", "scaled")


class Packed(nn.Module):
    """Codes and a scale, dequantised at each call."""

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.in_features, self.out_features = codes.shape[1], codes.shape[0]
        self.register_buffer("qweight", codes)

    def forward(self, x: Tensor) -> Tensor:
        codes: Any = self.qweight
        return F.linear(x, codes.to(x.dtype) * SCALE)


class Coded(Tensor):
    """A matrix of floats to read, kept as codes."""

    codes: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor) -> Coded:
        matrix = Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)
        matrix.codes = codes
        return matrix

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes)
        return func(*tree_map(cls._read, args), **tree_map(cls._read, kwargs or {}))

    @staticmethod
    def _read(value: Any) -> Any:
        return value.codes * SCALE if isinstance(value, Coded) else value


class Scaled(nn.Linear):
    """Floats of 8 bits, and a scale beside them."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype) * SCALE)


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(-15, 16, (OUT, IN), generator=torch.Generator().manual_seed(0), dtype=torch.int8)


@pytest.fixture
def build(codes: Tensor, randomise: Any) -> Callable[..., PeftModel]:
    """A plain layer and a quantised one, both with adapters."""

    def build(kind: str) -> PeftModel:
        torch.manual_seed(1)
        quantised: nn.Module = Packed(codes)
        if kind == "scaled":
            quantised = Scaled(IN, OUT, bias=False)
            quantised.weight = nn.Parameter(codes.to(torch.float8_e4m3fn), requires_grad=False)
        if kind == "coded":
            quantised = nn.Linear(IN, OUT, bias=False)
            quantised.weight = nn.Parameter(Coded(codes), requires_grad=False)
        base = nn.Sequential(nn.Linear(7, IN), quantised)
        model = get_peft_model(base, FourierFTConfig(target_modules=["0", "1"], n_frequency=8, scaling=40.0))
        randomise(model)
        return model

    return build


def adapted(model: PeftModel) -> tuple[Any, Any]:
    """The plain layer and the quantised one."""
    base: Any = model.get_base_model()
    return base[0], base[1]


@pytest.mark.parametrize("kind", KINDS)
def test_output_and_gradients_are_those_of_the_dequantised_weight(
    kind: str, build: Any, codes: Tensor, update: Any
) -> None:
    model, x = build(kind), torch.randn(5, 7)
    first, second = adapted(model)
    weights = [
        (first.get_base_layer().weight.detach().double() + update(first)).requires_grad_(),
        (codes.double() * SCALE + update(second)).requires_grad_(),
    ]
    bias: Any = first.get_base_layer().bias
    truth = F.linear(F.linear(x.double(), weights[0], bias.detach().double()), weights[1])
    result = model(x)
    torch.testing.assert_close(result.double(), truth, rtol=1e-5, atol=1e-5)
    result.square().sum().backward()
    truth.square().sum().backward()
    for layer, weight in zip((first, second), weights, strict=True):
        assert weight.grad is not None
        exact = reference_coefficient_gradient(weight.grad, layer.fourierft_basis["default"].entries, 40.0)
        torch.testing.assert_close(layer.fourierft_spectrum["default"].grad.double(), exact, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x).double(), truth.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_have_adapters_of_their_own(kind: str, build: Any, codes: Tensor, update: Any) -> None:
    layer = adapted(build(kind).eval())[1]
    x = torch.randn(2, IN)
    found = layer(x, adapter_names=["default", "__base__"])
    weight = codes.double() * SCALE
    truth = torch.stack([(weight + update(layer)) @ x[0].double(), weight @ x[1].double()])
    torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_is_refused_before_any_layer_has_merged(kind: str, build: Any) -> None:
    model, x = build(kind).eval(), torch.randn(5, 7)
    plain = adapted(model)[0].get_base_layer().weight.detach().clone()
    before = model(x)
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ConfigError, match=r"does not keep its weights as a matrix .* without quantisation"):
            merge()
    assert torch.equal(adapted(model)[0].get_base_layer().weight, plain)
    assert torch.equal(model(x), before)


def test_a_weight_that_was_quantised_after_its_adapter_was_added_is_not_merged_into(codes: Tensor) -> None:
    model = get_peft_model(nn.Sequential(nn.Linear(IN, OUT)), FourierFTConfig(target_modules=["0"], n_frequency=8))
    base: Any = model.get_base_model()
    base[0].base_layer.weight = nn.Parameter(Coded(codes), requires_grad=False)
    with pytest.raises(ConfigError, match="does not keep its weights as a matrix"):
        model.merge_adapter()


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_comes_back_from_disk(kind: str, build: Any, codes: Tensor, tmp_path: Path) -> None:
    model, x = build(kind).eval(), torch.randn(5, 7)
    model.save_pretrained(tmp_path)
    base = build(kind).unload()
    vars(base).pop("peft_config", None)  # older PEFT leaves it there
    again = PeftModel.from_pretrained(base, tmp_path).eval()
    assert torch.equal(again(x), model(x))


def test_stacks_of_floats_of_8_bits_are_refused() -> None:
    base = nn.Module()
    base.experts = nn.Module()
    base.experts.register_parameter(
        "up", nn.Parameter(torch.zeros(2, OUT, IN, dtype=torch.float8_e4m3fn), requires_grad=False)
    )
    with pytest.raises(ConfigError, match=r"float8_e4m3fn .* floats of 16 bits or more"):
        get_peft_model(base, FourierFTConfig(target_parameters=["experts.up"], target_modules=[], n_frequency=4))

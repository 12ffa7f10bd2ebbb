"""Merged updates are taken out as they were merged, whatever is written to the model meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from transformers import LlamaConfig, LlamaForCausalLM

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, FourierFTLayer
from fourierft.tuner.parameters import ParameterLayer


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv, self.stack = nn.Linear(9, 14), nn.Conv1d(4, 6, 3), nn.Parameter(torch.randn(3, 5, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def make() -> PeftModel:
    settings: dict[str, Any] = {"n_frequency": 12, "scaling": 30.0, "init_weights": False}
    config = FourierFTConfig(**settings, target_modules=["linear", "conv"], target_parameters=["stack"])
    with torch.no_grad():
        return get_peft_model(nn.Sequential(Base()), config)


def layers(model: nn.Module) -> list[FourierFTLayer]:
    return [module for module in model.modules() if isinstance(module, FourierFTLayer)]


def weights(model: nn.Module) -> list[Tensor]:
    return [layer.stored_weight.detach().clone() for layer in layers(model)]


def by_average(parameter: Tensor) -> None:
    parameter.data.copy_(torch.randn_like(parameter))


def by_replacement(parameter: Tensor) -> None:
    parameter.data = torch.randn_like(parameter)


@pytest.mark.parametrize("write", [by_average, by_replacement, torch.nn.init.zeros_])
def test_coefficients_that_change_while_merged_do_not_change_the_base(write: Callable) -> None:
    model = make()
    before = weights(model)
    model.merge_adapter()
    assert all((a - b).abs().max() > 0.01 for a, b in zip(weights(model), before, strict=True))
    for layer in layers(model):
        write(layer.coefficients("default"))
    model.unmerge_adapter()
    for after, own in zip(weights(model), before, strict=True):
        torch.testing.assert_close(after, own, rtol=0, atol=1e-6)


def test_what_is_written_to_a_merged_weight_is_kept() -> None:
    model = make()
    before = weights(model)
    model.merge_adapter()
    for layer in layers(model):
        layer.stored_weight.data.add_(1.0)
    model.unmerge_adapter()
    for after, own in zip(weights(model), before, strict=True):
        torch.testing.assert_close(after, own + 1.0, rtol=0, atol=1e-6)


@pytest.fixture
def tied() -> PeftModel:
    """A LLaMA whose head, tied to its embedding, is merged into."""
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    base = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=30, tie_word_embeddings=True))
    model = get_peft_model(base, FourierFTConfig(n_frequency=20, target_modules=["lm_head"], init_weights=False))
    model.merge_adapter()
    return model


def test_a_tied_weight_that_was_written_to_while_merged_is_not_thrown_away(tied: PeftModel) -> None:
    (head,) = layers(tied)
    embedding = tied.get_input_embeddings().weight
    before = embedding.detach().clone()
    head.stored_weight.data.mul_(2.0)
    merged, update = head.stored_weight.detach().clone(), head.get_delta_weight("default").detach()
    tied.unmerge_adapter()
    torch.testing.assert_close(head.stored_weight.detach(), merged - update, rtol=0, atol=1e-6)
    assert torch.equal(embedding, before)


def test_a_tied_weight_whose_embedding_was_written_to_follows_it(tied: PeftModel) -> None:
    (head,) = layers(tied)
    embedding = tied.get_input_embeddings().weight
    embedding.data.mul_(2.0)
    tied.unmerge_adapter()
    assert head.stored_weight is embedding


def test_a_parameter_is_among_what_was_tried() -> None:
    assert {type(layer) for layer in layers(make())} > {ParameterLayer}


class Kinds(nn.Module):
    """A layer of each kind that has a forward of its own, one of which is read instead of called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.conv = nn.Embedding(11, 4), nn.Conv1d(4, 6, 3, padding=1)
        self.linear, self.read, self.stack = nn.Linear(6, 5), nn.Linear(5, 8), nn.Parameter(torch.randn(2, 8, 8))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.linear(self.conv(self.table(ids).mT).mT)
        return torch.einsum("btj,eij->bti", nn.functional.linear(hidden, self.read.weight), self.stack)


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"], ["b"]])
@pytest.mark.parametrize("is_trained", [False, True])
def test_active_adapters_act_beside_merged_ones(order: list[str], is_trained: bool) -> None:
    targets: dict[str, Any] = {"target_modules": ["table", "conv", "linear", "read"], "target_parameters": ["stack"]}
    settings: dict[str, Any] = {"scaling": 9.0, "init_weights": False} | targets
    base = nn.Sequential(Kinds())
    model = get_peft_model(base, FourierFTConfig(n_frequency=12, **settings), adapter_name="a").eval()
    model.add_adapter("b", FourierFTConfig(n_frequency=7, random_loc_seed=3, **settings))
    ids = torch.arange(10).view(2, 5)
    model.base_model.set_adapter(["a", "b"])
    with torch.no_grad():
        both = model(ids)
        model.base_model.set_adapter(order)
        model.merge_adapter(["a"])
        parts = model(ids)
    torch.testing.assert_close(parts, both, rtol=1e-5, atol=1e-5)
    if is_trained:
        model.train()
        loss = model(ids)
        torch.testing.assert_close(loss, both, rtol=1e-5, atol=1e-5)
        loss.square().sum().backward()
        for layer in layers(model):
            grads = {name: layer.coefficients(name).grad for name in "ab"}
            assert grads["a"] is None
            assert grads["b"] is not None
            assert grads["b"].abs().max() > 0
    with torch.no_grad():
        with pytest.warns(UserWarning, match=r"Already following adapters were merged a"):
            model.merge_adapter(["b"])
        torch.testing.assert_close(model(ids), both, rtol=1e-5, atol=1e-5)
        model.unmerge_adapter()
        model.base_model.set_adapter(["a", "b"])
        torch.testing.assert_close(model(ids), both, rtol=1e-5, atol=1e-5)


COMPUTED: dict[str, Callable[[nn.Module], object]] = {
    "weight norm": parametrizations.weight_norm,
    "weight norm by a hook": nn.utils.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("way", COMPUTED)
@pytest.mark.parametrize("call", ["merge_adapter", "merge_and_unload"])
def test_a_weight_that_is_computed_at_every_call_is_not_merged_into(way: str, call: str) -> None:
    base = nn.Sequential(OrderedDict(first=nn.Linear(9, 14), second=nn.Linear(14, 5))).eval()
    COMPUTED[way](base[1])
    config = FourierFTConfig(n_frequency=12, scaling=30.0, init_weights=False, target_modules=["first", "second"])
    model, x = get_peft_model(base, config), torch.randn(4, 9)
    with torch.no_grad():
        wanted = model(x)
        with pytest.raises(ConfigError, match=r"^second computes its weights from other parameters at every call"):
            getattr(model, call)()
        assert torch.equal(model(x), wanted)
        with model.disable_adapter():  # nothing was merged into the other layer
            assert torch.equal(model(x), base[1].base_layer(base[0].base_layer(x)))


def test_a_weight_that_is_computed_no_more_is_merged_into() -> None:
    base = nn.Sequential(OrderedDict(only=parametrizations.weight_norm(nn.Linear(9, 14))))
    config = FourierFTConfig(n_frequency=12, scaling=30.0, init_weights=False, target_modules=["only"])
    model = get_peft_model(base, config)
    x = torch.randn(4, 9)
    with torch.no_grad():
        wanted = model(x)
        parametrize.remove_parametrizations(model.base_model.model[0].base_layer, "weight")
        torch.testing.assert_close(model.merge_and_unload()(x), wanted)

"""Adapted embeddings against rows of the cosine sum in float64: looked up, scaled, padded, and mixed in one batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig
from fourierft.tuner.embedding import EmbeddingLayer

SETTINGS: dict[str, Any] = {"scaling": 60.0, "init_weights": False}
IDS = torch.tensor([[0, 10, 3], [3, 3, 7]])


class Scaled(nn.Embedding):
    """An embedding that multiplies what it looks up, as Gemma's do: by a number rounded to the weight's dtype."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("embed_scale", torch.tensor(3.001), persistent=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) * self.embed_scale.to(self.weight.dtype)


class Learned(nn.Embedding):
    """An embedding that makes its ids itself, as those of learned positions do."""

    def forward(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        return super().forward(torch.arange(start + 1, start + 1 + x.shape[1]).expand(x.shape))


def make(base: nn.Embedding) -> EmbeddingLayer:
    layer = EmbeddingLayer(base, "default", 12, FourierFTConfig(**SETTINGS))
    layer.update_layer("short", 7, FourierFTConfig(**SETTINGS))
    layer.update_layer("other", 9, FourierFTConfig(**SETTINGS | {"scaling": 20.0, "random_loc_seed": 1}))
    return layer


def rows(layer: EmbeddingLayer, ids: torch.Tensor, update: Any, *names: str) -> torch.Tensor:
    base: Any = layer.get_base_layer()
    total = sum((update(layer, name) for name in names), torch.zeros(11, 5, dtype=torch.float64))
    if base.padding_idx is not None:
        total[base.padding_idx] = 0.0
    return (base.weight.detach().double() + total)[ids]


@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}])
def test_rows_are_those_of_the_weight_plus_the_cosine_sum(options: dict[str, Any], update: Any) -> None:
    layer = make(nn.Embedding(11, 5, **options))
    torch.testing.assert_close(layer(IDS).double(), rows(layer, IDS, update, "default"), rtol=1e-5, atol=1e-5)
    layer.set_adapter(["default", "short", "other"])
    expected = rows(layer, IDS, update, "default", "short", "other")
    torch.testing.assert_close(layer(IDS).double(), expected, rtol=1e-5, atol=1e-5)
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(IDS), layer.get_base_layer()(IDS), rtol=0, atol=0)


@pytest.mark.parametrize("grad", [True, False])
def test_each_row_of_a_batch_has_its_own_adapter(grad: bool, update: Any) -> None:
    layer, ids = make(nn.Embedding(11, 5, padding_idx=3)), torch.arange(15).view(5, 3) % 11
    names = ["other", "default", "__base__", "short", "default"]
    with torch.set_grad_enabled(grad):
        found = layer(ids, adapter_names=names)
    for i, name in enumerate(names):
        own = [] if name == "__base__" else [name]
        torch.testing.assert_close(found[i].double(), rows(layer, ids[i], update, *own), rtol=1e-5, atol=1e-5)


def test_ids_that_all_rows_share_get_the_adapter_of_each(update: Any) -> None:
    layer, names = make(nn.Embedding(11, 5)), ["other", "__base__"]
    found = layer(IDS[:1], adapter_names=names)
    torch.testing.assert_close(found[0].double(), rows(layer, IDS[0], update, "other"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], layer.get_base_layer()(IDS[0]), rtol=0, atol=0)


def test_a_scaled_embedding_scales_the_update_too(update: Any) -> None:
    layer = make(Scaled(11, 5))
    expected = rows(layer, IDS, update, "default") * 3.001
    torch.testing.assert_close(layer(IDS).double(), expected, rtol=1e-5, atol=1e-5)
    mixed = layer(IDS, adapter_names=["__base__", "other"])
    torch.testing.assert_close(mixed[1].double(), rows(layer, IDS[1], update, "other") * 3.001, rtol=1e-5, atol=1e-5)


def test_an_embedding_that_makes_its_ids_itself_is_right_but_not_mixed(update: Any) -> None:
    layer = make(Learned(11, 5))
    expected = rows(layer, torch.arange(3, 6), update, "default").expand(2, 3, 5)
    torch.testing.assert_close(layer(IDS, start=2).double(), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="of type Learned cannot have a different adapter in every row"):
        layer(IDS, adapter_names=["default", "other"])


def test_the_whole_update_is_never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make(nn.Embedding(11, 5))
    monkeypatch.setattr(EmbeddingLayer, "get_delta_weight", lambda *_: pytest.fail("the update of all rows was built"))
    layer(IDS).sum().backward()
    with torch.no_grad():
        layer(IDS)
    assert layer.fourierft_spectrum["default"].grad is not None


@pytest.mark.parametrize("target", ["wte", "wpe"])
def test_rows_of_a_model_equal_each_adapter_alone(target: str, make_gpt2: Any, randomise: Any) -> None:
    settings = FourierFTConfig(n_frequency=20, scaling=200.0, target_modules=[target, "c_attn"])
    model: PeftModel = get_peft_model(make_gpt2(), settings)
    model.add_adapter("other", settings)
    randomise(model)
    randomise(model, "other")
    ids = torch.arange(18).view(3, 6)
    names = ["other", "__base__", "default"]
    mixed = model.eval()(input_ids=ids, adapter_names=names).logits
    with model.disable_adapter():
        torch.testing.assert_close(mixed[1], model(ids[1:2]).logits[0], rtol=1e-4, atol=1e-4)
    for i in (0, 2):
        model.set_adapter(names[i])
        torch.testing.assert_close(mixed[i], model(ids[i : i + 1]).logits[0], rtol=1e-4, atol=1e-4)
    assert (mixed[0] - mixed[1]).abs().max() > 0.01


def test_a_model_that_cannot_name_its_embedding_is_adapted() -> None:
    class Nameless(LlamaForCausalLM):
        def get_input_embeddings(self) -> Any:
            raise NotImplementedError

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 40}
    settings = FourierFTConfig(n_frequency=9, target_modules=["q_proj"])
    for _ in range(2):  # with settings that an adapter was made of, too
        base: Any = Nameless(LlamaConfig(**sizes, num_attention_heads=2, pad_token_id=0))
        base.config.tie_word_embeddings = True
        model = get_peft_model(base, settings)
        assert model.base_model.targeted_module_names == ["model.layers.0.self_attn.q_proj"]

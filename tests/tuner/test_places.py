"""Modules at several places of a model, and those that only hold a weight of others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, FourierFTLayer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
X = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))


class Twins(nn.Module):
    """One layer at three places, one of them in a list."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left = nn.Linear(16, 16)
        self.right, self.more = self.left, nn.ModuleList([self.left])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.more[0](torch.tanh(self.right(torch.tanh(self.left(x)))))


class Listed(nn.Module):
    """Layers that are called from a list and a dictionary of Python, and are parts of the module besides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.steps = [nn.Linear(16, 16), nn.Tanh()]
        self.by_name = {"last": (nn.Linear(16, 8),)}
        for name, part in {"0": self.steps[0], "1": self.steps[1], "last": self.by_name["last"][0]}.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return self.by_name["last"][0](x)


def adapted(model: nn.Module, randomise: Any, *targets: str) -> PeftModel:
    model = get_peft_model(model, FourierFTConfig(n_frequency=16, scaling=60.0, target_modules=[*targets]))
    randomise(model)
    return model.eval()


def test_a_layer_is_adapted_at_all_its_places_and_taken_from_them(randomise: Any, update: Any, tmp_path: Any) -> None:
    model, by_hand = adapted(Twins(), randomise, "left"), Twins()
    base: Any = model.get_base_model()
    assert isinstance(base.left, FourierFTLayer)
    assert base.left is base.right is base.more[0]
    by_hand.left.weight.data += update(base.left).float()
    torch.testing.assert_close(model(X), by_hand(X), rtol=1e-5, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Twins(), tmp_path)
    torch.testing.assert_close(loaded(X), model(X), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loaded.unload()(X), Twins()(X), rtol=0, atol=0)
    merged: Any = model.merge_and_unload()
    assert type(merged.left) is nn.Linear
    assert merged.left is merged.right is merged.more[0]
    torch.testing.assert_close(merged(X), by_hand(X), rtol=1e-5, atol=1e-5)


def test_an_embedding_that_resizing_put_at_several_places_is_adapted_at_all(randomise: Any) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "vocab_size": 37,
        "eos_token_id": 2,
    }
    sizes |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    base: Any = BartForConditionalGeneration(BartConfig(**sizes, encoder_ffn_dim=16, decoder_ffn_dim=16)).eval()
    base.resize_token_embeddings(40)
    assert base.model.shared is base.model.encoder.embed_tokens
    ids = torch.arange(3, 15).view(2, 6)
    model = adapted(base, randomise, "shared")
    with torch.no_grad():
        before = base.model.encoder.embed_tokens(ids)
        logits = model(input_ids=ids).logits
        with model.disable_adapter():
            assert (model(input_ids=ids).logits - logits).abs().max() > 0.01
        merged = model.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(merged.model.decoder.embed_tokens(ids), before, rtol=1e-5, atol=1e-5)


def test_an_embedding_that_is_never_called_is_refused_and_the_others_are_named() -> None:
    sizes: dict[str, Any] = {"vocab_size": 37, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    base = T5ForConditionalGeneration(T5Config(**sizes))
    with pytest.raises(
        ConfigError, match=r"shared only stores .* name decoder.embed_tokens and encoder.embed_tokens in"
    ):
        get_peft_model(base, FourierFTConfig(n_frequency=5, target_modules=["shared", "q"]))


def test_layers_called_from_lists_are_adapted_there_and_stock_peft_is_told(
    randomise: Any, update: Any, stock: Any, tmp_path: Any
) -> None:
    model, by_hand = adapted(Listed(), randomise, "0", "last"), Listed()
    base: Any = model.get_base_model()
    for name in ("0", "last"):
        by_hand.get_submodule(name).weight.data += update(base.get_submodule(name)).float()
    torch.testing.assert_close(model(X), by_hand(X), rtol=1e-5, atol=1e-5)
    model(X).sum().backward()
    assert all(part.weight.grad is not None for part in base.steps[0].fourierft_coefficients.values())
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Listed(), tmp_path)
    torch.testing.assert_close(loaded(X), model(X), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loaded.unload()(X), Listed()(X), rtol=0, atol=0)
    merged: Any = model.merge_and_unload()
    assert type(merged.steps[0]) is type(merged.by_name["last"][0]) is nn.Linear
    assert merged.steps[0] is merged.get_submodule("0")
    torch.testing.assert_close(merged(X), by_hand(X), rtol=1e-5, atol=1e-5)
    with (
        stock(),
        pytest.warns(UserWarning, match="fourierft"),
        pytest.raises(ValueError, match="only the package fourierft reads"),
    ):
        PeftModel.from_pretrained(Listed(), tmp_path)

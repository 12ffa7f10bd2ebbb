"""Layers whose weight is read: their adapters have gradients, and the same effect in every mode and once merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import (
    DebertaConfig,
    DebertaForMaskedLM,
    JambaConfig,
    JambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5ForConditionalGeneration,
)

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig, FourierFTLayer
from fourierft.tuner.reading import is_only_read, names_read

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(3))
MASK = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


class Encoder(nn.Module):
    """torch's own, whose fast path in evaluation mode reads all weights, and its attention that of out_proj always."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x, src_key_padding_mask=MASK)[~MASK]


class Reader(nn.Module):
    """Reads some layers, in ways that differ; calls others."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj, self.called, self.dtyped = (nn.Linear(16, 16) for _ in range(3))
        self.many = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(2))
        self.conv = nn.Conv1d(16, 16, 3, groups=16, padding=1)
        self.to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.called(torch.tanh(self._project(x.to(self.dtyped.weight.dtype))))
        if isinstance(self.dtyped.weight, torch.Tensor):
            x = self.dtyped(torch.tanh(x))
        x = F.conv1d(x.transpose(1, 2), self.conv.weight, self.conv.bias, padding=1, groups=16).transpose(1, 2)
        return F.linear(torch.tanh(x), self.many[1].weight)  # type: ignore[arg-type]

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.proj.weight, self.proj.bias)


class Hidden(nn.Module):
    """Reads a weight where its source does not show it; another layer is called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.called, self.proj = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in ("proj",):
            x = F.linear(x, getattr(getattr(self, name), "weight"))  # noqa: B009
        return self.called(torch.tanh(x))


def mamba() -> nn.Module:
    return MambaForCausalLM(MambaConfig(vocab_size=37, hidden_size=16, state_size=4, num_hidden_layers=1))


def siglip() -> nn.Module:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    return SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=4, patch_size=2))


IDS = torch.arange(3, 15).view(2, 6)
PIXELS = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
MODELS: dict[str, tuple[Any, torch.Tensor, list[str]]] = {
    "encoder": (Encoder, X, ["linear1", "linear2", "out_proj"]),
    "reader": (Reader, X, ["proj", "called", "dtyped", "1", "conv"]),
    "mamba": (mamba, IDS, ["in_proj", "x_proj", "dt_proj", "out_proj", "conv1d"]),
    "siglip": (siglip, PIXELS, ["out_proj", "fc1"]),
}


def make(kind: str, randomise: Any, *targets: str) -> PeftModel:
    torch.manual_seed(0)
    build, _, usual = MODELS[kind]
    model = get_peft_model(build(), FourierFTConfig(n_frequency=16, scaling=20.0, target_modules=[*targets] or usual))
    randomise(model)
    return model


def output(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = model(x)
    return y if isinstance(y, torch.Tensor) else y.pooler_output if "pooler_output" in y else y.logits


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`", "ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", MODELS)
def test_every_adapter_has_a_gradient_and_the_effect_that_it_has_once_merged(
    kind: str, randomise: Any, update: Any
) -> None:
    model, x = make(kind, randomise), MODELS[kind][1]
    trained = output(model.train(), x)
    trained.square().sum().backward()
    layers = [layer for layer in model.modules() if isinstance(layer, FourierFTLayer)]
    assert all(bool(layer.fourierft_spectrum["default"].grad.any()) for layer in layers)
    torch.manual_seed(0)
    by_hand: Any = MODELS[kind][0]()
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, FourierFTLayer):
            own: Any = by_hand.get_submodule(name)
            own.weight.data += update(layer).view(own.weight.shape).float()
    expected = output(by_hand.eval(), x).detach()
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().max())}
    torch.testing.assert_close(trained.detach(), expected, **close)
    torch.testing.assert_close(output(model.eval(), x).detach(), expected, **close)
    with torch.no_grad():
        torch.testing.assert_close(output(model, x), expected, **close)
        with model.disable_adapter():
            assert (output(model, x) - expected).abs().max() > 1e-3
        model.merge_adapter()
        torch.testing.assert_close(output(model, x), expected, **close)
        model.unmerge_adapter()
        torch.testing.assert_close(output(model.merge_and_unload(), x), expected, **close)


def test_what_is_read_is_seen_in_the_source() -> None:
    assert names_read(Reader()) == {"proj", "many", "conv"}
    assert is_only_read(Reader(), "proj")
    assert not is_only_read(Reader(), "called")
    assert {"out_proj", "linear1", "linear2"} <= names_read(Encoder())
    assert is_only_read(nn.MultiheadAttention(4, 2), "out_proj")
    mixer: Any = mamba().backbone.layers[0].mixer
    assert {"conv1d", "dt_proj", "x_proj", "out_proj"} <= names_read(mixer)


def test_usual_models_read_no_layer_that_they_call() -> None:
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    t5 = T5Config(vocab_size=37, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)  # asks wo.weight's dtype
    for model in (LlamaForCausalLM(LlamaConfig(vocab_size=37, **small)), T5ForConditionalGeneration(t5)):
        leaves = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        assert not leaves & names_read(model)
    jamba = JambaConfig(vocab_size=37, **small, num_key_value_heads=1, num_experts=1, use_mamba_kernels=False)
    assert {"out_proj", "x_proj", "in_proj"}.isdisjoint(names_read(JambaForCausalLM(jamba)))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_a_head_that_reads_the_embedding_of_others_gets_its_update(randomise: Any) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    config = DebertaConfig(vocab_size=37, **sizes, max_position_embeddings=32, legacy=False)
    base: Any = DebertaForMaskedLM(config).eval()
    model = get_peft_model(base, FourierFTConfig(n_frequency=16, scaling=60.0, target_modules=["word_embeddings"]))
    randomise(model)
    with torch.no_grad():
        expected = model(IDS).logits
        assert base.deberta.embeddings.word_embeddings.is_read
        merged = model.merge_and_unload()(IDS).logits
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_rows_cannot_have_different_adapters_in_a_weight_that_is_read(randomise: Any) -> None:
    model = make("reader", randomise, "proj", "called").eval()
    model.add_adapter("other", FourierFTConfig(n_frequency=16, target_modules=["proj", "called"]))
    with pytest.raises(
        ConfigError, match="reads the weights of proj instead of calling the layer, so rows cannot have"
    ):
        model(X, adapter_names=["default", "other"])
    mixed = make("reader", randomise, "called").eval()
    assert mixed(X, adapter_names=["default", "__base__"]).shape == X.shape


@pytest.mark.filterwarnings("ignore:merging into torch.bfloat16")
def test_coarse_weights_that_are_read_are_told_of(randomise: Any) -> None:
    settings = FourierFTConfig(n_frequency=16, target_modules=["proj", "conv", "called"])
    with pytest.warns(UserWarning, match=r"reads the weights of 2 layers, such as proj, .*: in torch.bfloat16 what an"):
        model = get_peft_model(Reader(torch.bfloat16), settings)
    randomise(model)
    with torch.no_grad():
        before = model(X)
        torch.testing.assert_close(model.merge_and_unload()(X), before, rtol=0.1, atol=0.1)


def test_a_layer_that_is_read_out_of_sight_is_told_of_and_not_merged(randomise: Any) -> None:
    model = get_peft_model(Hidden(), FourierFTConfig(n_frequency=16, target_modules=["proj", "called"]))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(X).sum().backward()
    with pytest.warns(
        UserWarning, match=r"1 of 2 adapted layers got no gradient in the first step, such as proj: the mo"
    ):
        optimizer.step()
    model.merge_adapter()  # what is zero changes nothing
    model.unmerge_adapter()
    randomise(model)
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ConfigError, match="'default' had no effect in proj so far, because the model reads"):
            merge()


def test_a_layer_that_no_batch_reached_is_told_of_and_merged(randomise: Any) -> None:
    model: Any = nn.ModuleDict({"used": nn.Linear(16, 16), "idle": nn.Linear(16, 16)})
    adapted = get_peft_model(model, FourierFTConfig(n_frequency=16, target_modules=["used", "idle"]))
    randomise(adapted)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    adapted.base_model.model["used"](X).sum().backward()
    with pytest.warns(UserWarning, match="such as idle: nothing called it so far; if this continues, leave"):
        optimizer.step()
    adapted.merge_adapter()


def test_an_adapter_that_is_merged_without_a_call_is_merged(randomise: Any) -> None:
    model = get_peft_model(Hidden(), FourierFTConfig(n_frequency=16, target_modules=["proj", "called"]))
    randomise(model)
    assert model.base_model.model.proj.weight.shape == (16, 16)
    model.merge_and_unload()


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments", "ignore:`is_gradient_checkpointing`")
def test_stock_peft_stops_where_it_would_have_no_effect(randomise: Any, stock: Any, tmp_path: Path) -> None:
    make("encoder", randomise, "out_proj").save_pretrained(str(tmp_path / "read"))
    with stock(), pytest.raises(ValueError, match="adapters of layers whose weights the model reads, which only the"):
        PeftModel.from_pretrained(Encoder(), tmp_path / "read")
    loaded = PeftModel.from_pretrained(Encoder(), tmp_path / "read")
    torch.testing.assert_close(loaded.eval()(X), make("encoder", randomise, "out_proj").eval()(X))
    make("reader", randomise, "called").save_pretrained(str(tmp_path / "called"))
    with stock():
        PeftModel.from_pretrained(Reader(), tmp_path / "called")


def test_who_reads_a_weight_outside_of_a_call_does_not_keep_it_from_being_merged(randomise: Any) -> None:
    model = get_peft_model(Hidden(), FourierFTConfig(n_frequency=16, target_modules=["proj", "called"]))
    randomise(model)
    assert {tuple(part.weight.shape) for part in model.modules() if isinstance(part, FourierFTLayer)}
    base: Any = model.get_base_model()
    base.called(X)  # and not the model, which would read the other
    assert type(model.merge_and_unload().proj) is nn.Linear

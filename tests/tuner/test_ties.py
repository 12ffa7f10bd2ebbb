"""Heads and embeddings, tied and not, against logits by hand in float64, from training to a merge that is reloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from fourierft.tuner import FourierFTConfig, FourierFTLayer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

IDS = torch.arange(3, 15).view(2, 6)
SMALL: dict[str, Any] = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
T5: dict[str, Any] = {"vocab_size": 37, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
BART: dict[str, Any] = {"vocab_size": 37, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "eos_token_id": 2}
BART |= {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in
         (("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
SWITCH = T5 | {"num_experts": 2, "num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0}
TIED: dict[str, Any] = {"tie_word_embeddings": True}


def llava() -> PreTrainedModel:
    """Its text model's config lies inside its own."""
    text = {"model_type": "llama", **SMALL, **TIED}
    vision = {"model_type": "clip_vision_model", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 1, "image_size": 4, "patch_size": 2}
    settings: dict[str, Any] = {"text_config": text, "vision_config": vision, "image_token_id": 36}
    return LlavaForConditionalGeneration(LlavaConfig(**settings, **TIED))


Kind = tuple[Callable[[], PreTrainedModel], str, str]  # makes it, its head, its embeddings
MODELS: dict[str, Kind] = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SMALL, **TIED)), "lm_head", "embed_tokens"),
    "qwen2": (lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL, **TIED, num_key_value_heads=1)), "lm_head", "embed_tokens"),
    "llava": (llava, "lm_head", "embed_tokens"),
    "gpt2": (
        lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=37, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
        ),
        "lm_head",
        "wte",
    ),
    "bert": (lambda: BertForMaskedLM(BertConfig(**SMALL)), "decoder", "word_embeddings"),
    "t5": (lambda: T5ForConditionalGeneration(T5Config(**T5)), "lm_head", "embed_tokens"),
    "bart": (lambda: BartForConditionalGeneration(BartConfig(**BART)), "lm_head", "embed_tokens"),
    "switch": (
        lambda: SwitchTransformersForConditionalGeneration(SwitchTransformersConfig(**SWITCH)),
        "lm_head",
        "embed_tokens",
    ),
}
KEEP_THEIR_FLAG = ("t5", "switch")  # whose outputs it scales
PLACES = ("head", "embeddings", "both")


def make(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: Any = MODELS[kind][0]()
    return model.double().eval()


def adapt(kind: str, place: str, randomise: Any) -> PeftModel:
    _, head, embeddings = MODELS[kind]
    targets = {"head": [head], "embeddings": [embeddings], "both": [head, embeddings]}[place]
    model = get_peft_model(make(kind), FourierFTConfig(n_frequency=20, scaling=60.0, target_modules=targets))
    randomise(model)
    return model.eval()


def logits(model: nn.Module) -> torch.Tensor:
    decoded = {"decoder_input_ids": IDS + 1} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=IDS, **decoded).logits


def by_hand(kind: str, model: PeftModel, update: Any) -> torch.Tensor:
    """Logits of the base with its weights untied, dW of each adapted one added by the cosine sum."""
    base = make(kind)
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, FourierFTLayer):
            own: Any = base.get_submodule(name)
            delta = update(layer)
            if getattr(own, "padding_idx", None) is not None:
                delta[own.padding_idx] = 0.0
            own.weight = nn.Parameter(own.weight.detach() + delta)
    return logits(base)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_those_worked_out_by_hand_before_and_after_a_merge(
    kind: str, place: str, randomise: Any, update: Any, tmp_path: Path
) -> None:
    model = adapt(kind, place, randomise)
    expected, before = by_hand(kind, model, update), logits(make(kind))
    assert (expected - before).abs().max() > 0.02
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-5}  # coefficients are float32
    torch.testing.assert_close(logits(model), expected, **close)
    model.merge_adapter()
    torch.testing.assert_close(logits(model), expected, **close)
    model.unmerge_adapter()
    torch.testing.assert_close(logits(model), expected, **close)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    base: Any = model.get_base_model()
    merged: Any = model.merge_and_unload()
    assert merged is base
    torch.testing.assert_close(logits(merged), expected, **close)
    merged.save_pretrained(tmp_path)
    reloaded = type(merged).from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(logits(reloaded), logits(merged), rtol=0, atol=1e-13)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["tie_word_embeddings"] is (kind in KEEP_THEIR_FLAG)
    assert saved.get("text_config", saved)["tie_word_embeddings"] is (kind in KEEP_THEIR_FLAG)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "bart"])
def test_unmerging_restores_the_tie(kind: str, place: str, randomise: Any) -> None:
    model = adapt(kind, place, randomise)
    base: Any = model.get_base_model()
    ties = {f"{_wrapped(base, a)}": _wrapped(base, b) for a, b in base.all_tied_weights_keys.items()}
    before = {name: attrgetter(name)(base).clone() for name in ties}
    model.add_adapter("other", model.peft_config["default"])
    model.merge_adapter(["default", "other"])
    assert any(attrgetter(a)(base) is not attrgetter(b)(base) for a, b in ties.items())
    model.unmerge_adapter()
    for a, b in ties.items():
        assert attrgetter(a)(base) is attrgetter(b)(base)
        torch.testing.assert_close(attrgetter(a)(base), before[a], rtol=0, atol=0)


def _wrapped(base: nn.Module, name: str) -> str:
    """The name of a weight in a model whose layers are adapted."""
    holder, _, leaf = name.rpartition(".")
    inner = "base_layer." if isinstance(base.get_submodule(holder), FourierFTLayer) else ""
    return f"{holder}.{inner}{leaf}"


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_unloading_leaves_model_and_config_as_they_were(kind: str, randomise: Any) -> None:
    model = adapt(kind, "both", randomise)
    assert model.unload().config.tie_word_embeddings
    torch.testing.assert_close(logits(model.get_base_model()), logits(make(kind)), rtol=0, atol=0)


def test_a_model_that_an_adapter_of_other_layers_is_merged_into_stays_tied(randomise: Any) -> None:
    model = get_peft_model(make("llama"), FourierFTConfig(n_frequency=20, target_modules=["q_proj"]))
    randomise(model)
    merged: Any = model.merge_and_unload()
    assert merged.config.tie_word_embeddings
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


def test_training_the_head_leaves_the_embedding(randomise: Any) -> None:
    model = adapt("llama", "head", randomise)
    base: Any = model.get_base_model()
    before = base.model.embed_tokens(IDS).clone()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-1)
    logits_before = logits(model)
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    assert (logits(model) - logits_before).abs().max() > 1e-3
    torch.testing.assert_close(base.model.embed_tokens(IDS), before, rtol=0, atol=0)


def test_a_merged_model_generates_as_the_adapted_one(randomise: Any) -> None:
    model = adapt("llama", "both", randomise)
    expected = model.generate(input_ids=IDS, max_new_tokens=5, do_sample=False)
    torch.testing.assert_close(model.merge_and_unload().generate(IDS, max_new_tokens=5, do_sample=False), expected)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_file_holds_the_coefficients_alone(kind: str, place: str, randomise: Any, tmp_path: Path) -> None:
    model = adapt(kind, place, randomise)
    model.save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {tuple(tensor.shape) for tensor in tensors.values()} == {(20,)}
    loaded = PeftModel.from_pretrained(make(kind), tmp_path).eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)


def saved_keys(model: PeftModel, folder: Path, **options: Any) -> set[str]:
    model.save_pretrained(str(folder), **options)
    tensors = load_file(folder / "adapter_model.safetensors")
    return {key.removeprefix("base_model.model.") for key, tensor in tensors.items() if tensor.dim() == 2}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
@pytest.mark.parametrize(("kind", "name"), [("llama", "model.embed_tokens"), ("gpt2", "transformer.wte")])
def test_a_matrix_that_is_asked_for_or_resized_is_kept(kind: str, name: str, randomise: Any, tmp_path: Path) -> None:
    asked = saved_keys(adapt(kind, "both", randomise), tmp_path / "asked", save_embedding_layers=True)
    assert asked == {"lm_head.base_layer.weight", f"{name}.base_layer.weight"}
    make(kind).save_pretrained(tmp_path / "base")
    base: Any = type(make(kind)).from_pretrained(tmp_path / "base", dtype=torch.float64).eval()
    base.resize_token_embeddings(41)
    config = FourierFTConfig(n_frequency=20, target_modules=rf".*({name.split('.')[1]}|c_attn|q_proj)")
    model = get_peft_model(base, config).eval()
    randomise(model)
    assert f"{name}.base_layer.weight" in saved_keys(model, tmp_path / "resized")
    other: Any = make(kind)
    other.resize_token_embeddings(41)
    loaded = PeftModel.from_pretrained(other, tmp_path / "resized").eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_a_resized_vocabulary_of_a_part_of_the_model_is_seen(randomise: Any, tmp_path: Path) -> None:
    make("llava").save_pretrained(tmp_path / "base")
    for size, kept in ((37, set()), (41, {"lm_head.base_layer.weight"})):
        base: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "base")
        if size != 37:
            base.resize_token_embeddings(size)
        model = get_peft_model(base, FourierFTConfig(n_frequency=20, target_modules=["lm_head"]))
        assert saved_keys(model, tmp_path / str(size)) == kept

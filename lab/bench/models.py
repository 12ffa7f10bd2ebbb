"""The models that are measured: public configurations with random weights, as speed does not depend on the values.

Dropout is off everywhere: it would slow the base alone, and so flatter every ratio.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

Model = Any  # a torch.nn.Module, as its class makes it: what modules hold is not known to type checkers
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass(frozen=True)
class Architecture:
    """A model to build, its batch, and where the field adapts it.

    Attributes:
        name: printed with each row.
        config: name of the configuration class in transformers.
        model: name of the model class in transformers.
        settings: of the configuration.
        tiny: settings of the same model for a smoke run.
        targets: names of the adapted modules.
        every: names of all linear layers of a block, or the ends of their paths; no head.
        head: name of the head that is trained along, if any.
        batch: sequences or images of a training step.
        tokens: per sequence; 0 for images.
    """

    name: str
    config: str
    model: str
    targets: tuple[str, ...]
    batch: int
    tokens: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None
    every: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


_TINY_LLAMA = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 128,
}
_BERT_LAYERS = ("query", "key", "value", "intermediate.dense", "output.dense")
_TINY_ENCODER = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}


def _llama(name: str, width: int, inner: int, layers: int, heads: int, key_heads: int, vocabulary: int) -> Architecture:
    settings = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocabulary,
    }
    return Architecture(name, "LlamaConfig", "LlamaForCausalLM", ("q_proj", "v_proj"), 4, 128, settings, _TINY_LLAMA)


ARCHITECTURES = {
    model.name: model
    for model in (
        Architecture(
            name="roberta-base",
            config="RobertaConfig",
            model="RobertaForSequenceClassification",
            targets=("query", "value"),
            batch=8,
            tokens=128,
            settings={**NO_DROPOUT, "max_position_embeddings": 514, "type_vocab_size": 1},
            tiny={**_TINY_ENCODER, "vocab_size": 128},
            head="classifier",
            every=_BERT_LAYERS,
        ),
        Architecture(
            name="minilm",
            config="BertConfig",
            model="BertForSequenceClassification",
            targets=("query", "value"),
            batch=16,
            tokens=32,
            settings={
                **NO_DROPOUT,
                "hidden_size": 384,
                "num_hidden_layers": 6,
                "intermediate_size": 1536,
            },
            tiny={**_TINY_ENCODER, "vocab_size": 128},
            head="classifier",
            every=_BERT_LAYERS,
        ),
        Architecture(
            name="gpt2",
            config="GPT2Config",
            model="GPT2LMHeadModel",
            targets=("c_attn",),
            batch=4,
            tokens=128,
            settings={"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
            tiny={"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 128, "bos_token_id": 1, "eos_token_id": 2},
        ),
        Architecture(
            name="vit-base",
            config="ViTConfig",
            model="ViTForImageClassification",
            targets=("q_proj", "v_proj"),
            batch=8,
            tokens=0,
            settings=NO_DROPOUT,
            tiny={**_TINY_ENCODER, "image_size": 32},
            head="classifier",
            every=("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"),
        ),
        _llama("llama-2048", 2048, 5504, 4, 16, 16, 32000),  # LLaMA's proportions at half of the 7B's width, 4 layers
        _llama("smollm2-135m", 576, 1536, 30, 9, 3, 49152),
        _llama("llama-2-7b", 4096, 11008, 32, 32, 32, 32000),
        *(
            _llama(f"{name}, {layers} layer{'s' * (layers > 1)}", width, inner, layers, heads, key_heads, 2048)
            for name, layers, width, inner, heads, key_heads in (
                ("smollm2-135m", 2, 576, 1536, 9, 3),
                ("qwen2.5-0.5b", 2, 896, 4864, 14, 2),
                ("width 1024, MLP 11008", 2, 1024, 11008, 16, 16),
                ("qwen2.5-1.5b", 2, 1536, 8960, 12, 2),
                ("tinyllama", 2, 2048, 5632, 32, 4),
                ("llama-3.2-1b", 2, 2048, 8192, 32, 8),
                ("qwen2.5-7b", 1, 3584, 18944, 28, 4),
                ("llama-2-7b", 1, 4096, 11008, 32, 32),
            )
        ),
        replace(_llama("llama-2-7b, 2 layers", 4096, 11008, 2, 32, 32, 2048), tokens=2048),
        _llama("llama-2-70b", 8192, 28672, 80, 64, 8, 32000),
    )
}


for _name in ("roberta-base", "vit-base"):
    _whole = ARCHITECTURES[_name]
    _few = {**_whole.settings, "num_hidden_layers": 2}
    ARCHITECTURES[f"{_name}, 2 layers"] = replace(_whole, name=f"{_name}, 2 layers", settings=_few)


def build(architecture: Architecture, grid: str = "small", **changes: Any) -> Model:
    """The model with frozen random weights, on the current default device.

    Args:
        architecture: what to build.
        grid: "smoke" builds the tiny model of the same kind.
        changes: settings of the configuration that replace those of the architecture.
    """
    import transformers

    tiny = architecture.tiny if grid == "smoke" else {}
    config = getattr(transformers, architecture.config)(**{**architecture.settings, **tiny, **changes})
    torch.manual_seed(0)
    return getattr(transformers, architecture.model)(config).requires_grad_(False)


def draw_batch(architecture: Architecture, model: Model, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Random inputs and labels of a training step."""
    generator = torch.Generator().manual_seed(1)
    config = model.config
    if not architecture.tokens:
        image = (architecture.batch, config.num_channels, config.image_size, config.image_size)
        pixels = torch.randn(image, generator=generator).to(device, dtype)
        return {"pixel_values": pixels, "labels": _classes(architecture.batch, generator).to(device)}
    size = (architecture.batch, architecture.tokens)
    ids = torch.randint(3, config.vocab_size, size, generator=generator).to(device)
    labels = _classes(architecture.batch, generator).to(device) if architecture.head else ids
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _classes(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(2, (count,), generator=generator)


def share(model: nn.Module, own: Callable[[str], bool] = lambda name: False) -> Model:
    """Copy of a model's modules over the same weights, so that contenders of one run cost the memory of one model.

    Args:
        model: to copy.
        own: tells by name which parameters the copy gets for itself.
    """
    kept = {id(p): p for name, p in model.named_parameters(remove_duplicate=False) if not own(name)}
    return copy.deepcopy(model, memo=dict(kept))

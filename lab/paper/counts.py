"""Table 1: trained parameters and bytes of LoRA and FourierFT, counted on the models themselves.

The models are built from their published sizes on torch's meta device: every layer is there, no weight is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fourierft.errors import ConfigError
from fourierft.tables import format_bytes, markdown_table
from fourierft.training.methods import expected_warnings
from lab.ledger import Ledger, Row
from lab.paper.experiment import Choice, Experiment
from lab.paper.published import read_paper

BYTES = 4  # float32
FUSED = ("c_attn",)  # GPT-2 keeps query, key and value in one layer


@dataclass(frozen=True)
class Shape:
    """A model by its published sizes: class of its config in transformers, and what that is told."""

    config: str
    sizes: Mapping[str, Any]
    targets: tuple[str, ...]


def _gpt2(width: int, blocks: int, heads: int) -> Shape:
    return Shape("GPT2Config", {"n_embd": width, "n_layer": blocks, "n_head": heads}, FUSED)


def _encoder(config: str, width: int, blocks: int, heads: int, targets: tuple[str, ...], **more: int) -> Shape:
    sizes = {"hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads, **more}
    return Shape(config, sizes, targets)


_TEXT = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
MODELS = {
    "roberta-base": _encoder("RobertaConfig", 768, 12, 12, ("query", "value"), intermediate_size=3072, **_TEXT),
    "roberta-large": _encoder("RobertaConfig", 1024, 24, 16, ("query", "value"), intermediate_size=4096, **_TEXT),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "llama-2-7b": _encoder("LlamaConfig", 4096, 32, 32, ("q_proj", "v_proj"), intermediate_size=11008),
    "llama-2-13b": _encoder("LlamaConfig", 5120, 40, 40, ("q_proj", "v_proj"), intermediate_size=13824),
    "vit-base": _encoder("ViTConfig", 768, 12, 12, ("q_proj", "v_proj"), intermediate_size=3072),
    "vit-large": _encoder("ViTConfig", 1024, 24, 16, ("q_proj", "v_proj"), intermediate_size=4096),
}


def build_meta_model(name: str) -> torch.nn.Module:
    """A model of Table 1 on the meta device."""
    import transformers

    shape = MODELS[name]
    config = getattr(transformers, shape.config)(**shape.sizes)
    with torch.device("meta"):
        return transformers.AutoModel.from_config(config)


def count(name: str, method: str, size: int) -> dict[str, Any]:
    """What a method trains of a model.

    Args:
        name: of MODELS.
        method: lora or fourierft.
        size: rank, or coefficients a matrix. GPT-2's one layer for query, key and value stands for the two matrices
            that the paper counts, so it gets twice as many coefficients; LoRA of rank r on it has 4 r numbers a column,
            as r on two square matrices.

    Returns: `parameters`, `layers` adapted, `bytes` of the numbers alone, `file` bytes of the adapter's file.
    """
    import peft
    from safetensors.torch import save

    import fourierft

    fourierft.enable()
    targets = list(MODELS[name].targets)
    is_fused = MODELS[name].targets == FUSED
    if method == "lora":
        config: Any = peft.LoraConfig(r=size, target_modules=targets, fan_in_fan_out=is_fused)
    else:
        config = fourierft.FourierFTConfig(n_frequency=size * 2 if is_fused else size, target_modules=targets)
    with expected_warnings():
        model: Any = peft.get_peft_model(build_meta_model(name), config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not all(parameter.is_meta for parameter in trained):
        raise ConfigError(f"the adapter of {name} left the meta device; report this")
    saved = peft.get_peft_model_state_dict(model)
    parameters = sum(parameter.numel() for parameter in trained)
    return {
        "parameters": parameters,
        "layers": sum(hasattr(module, "base_layer") for module in model.modules()),
        "bytes": BYTES * parameters,
        "file": len(save({key: torch.zeros(tensor.shape) for key, tensor in saved.items()}, {"format": "pt"})),
    }


def cells(models: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """(model, method, size, the paper's count) of every number in Table 1."""
    table = read_paper()["table1"]
    return [
        (name, method, int(size), expected)
        for name in models
        for method in ("lora", "fourierft")
        for size, expected in table[name][method].items()
    ]


def run(choice: Choice, ledger: Ledger) -> None:
    named = [dict(zip(("model", "method", "size", "paper"), cell, strict=True)) for cell in cells(choice.models)]
    for cell in ledger.missing(named, choice.max_runs):
        ledger.add(cell, count(cell["model"], cell["method"], cell["size"]))


def page(rows: Sequence[Row], folder: Path) -> list[str]:
    """The table: the paper's formula, what it prints, and what was counted."""
    printed = read_paper()["table1"]["printed"]
    lines = [("model", "method", "paper prints", "by its formula", "counted", "of 4 bytes", "paper prints", "file")]
    for name in MODELS:
        order = [cell[1:3] for cell in cells([name])]
        for row in (row for row in rows if row["model"] == name):
            place = order.index((row["method"], row["size"]))
            size = f"LoRA r={row['size']}" if row["method"] == "lora" else f"FourierFT n={row['size']}"
            lines.append(
                (
                    name,
                    size,
                    printed[name]["parameters"][place],
                    f"{row['paper']:,}",
                    f"{row['parameters']:,}",
                    f"{row['bytes']:,} B",
                    printed[name]["bytes"][place],
                    format_bytes(row["file"]),
                )
            )
    equal = sum(row["paper"] == row["parameters"] for row in rows)
    return [
        f"{equal} of {len(rows)} counts are those of the paper's formulas, 2 d L r and n L.",
        markdown_table(lines),
        """\
- Counted: parameters that PEFT trains on the model itself, built from its published sizes without weights.
- Of 4 bytes: the numbers alone, float32. The paper's bytes are in units of 1024 and of 1024 x 1024, rounded.
- File: `adapter_model.safetensors` as it is saved, with names and shapes; entries are drawn from a seed and not saved.
- GPT-2 has one layer for query, key and value. The paper counts two square matrices a block; 2 n coefficients of the
  one layer are as many numbers, and so are r columns of LoRA over it.
- As printed and not as computed: GPT-2 medium r=4 says 350K for 393,216; RoBERTa base gives n=200 for both lines, the
  second is n=1000; ViT base n=10000 says 239K for 240,000.""",
    ]


def names(choice: Choice) -> list[str]:
    return [f"{name}, {method} {size}" for name, method, size, _ in cells(choice.models)]


EXPERIMENTS = (Experiment("table1", "Table 1: trained parameters and bytes", run, page, names, models=tuple(MODELS)),)

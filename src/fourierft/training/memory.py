"""How much memory a training takes, roughly, from a model on torch's meta device: shapes, and no numbers."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

STATE_BYTES = {"sgd": 0, "adafactor": 0, "8bit": 2}  # of the optimizer for a trained number; others keep two moments
WEIGHT_BYTES = {"nf4": 1 / 2 + 1 / 64 + 4 / (64 * 256), "int8": 1.0, "torchao-int8": 1.0}  # a number, with its scales


def estimate_memory(
    model: Any, batch: dict[str, Tensor], settings: TrainingArguments, quantization: str | None = None
) -> dict[str, int]:
    """Bytes on one device that nothing is sharded over: of the weights, the gradients, the optimizer's state and the
    activations, and of all `together`.

    The activations are what one forward pass keeps for the gradients, as autograd keeps it; with activation
    checkpointing, the inputs of all blocks and what one block keeps; with bf16 or fp16, half of what float32 takes.
    What comes and goes within an operation is left out, and so is what the allocator wastes.

    Args:
        model: on the meta device; it is set to train.
        batch: on the meta device.
        quantization: of the frozen linear layers but the output layer, which `model` holds unquantised.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state = next((size for name, size in STATE_BYTES.items() if name in settings.optim), None)
    activations, inputs, blocks = _measure_activations(model.train(), batch)
    if settings.activation_checkpointing and blocks:
        activations = activations // blocks + inputs
    if (settings.bf16 or settings.fp16) and next(model.parameters()).dtype == torch.float32:
        activations //= 2
    parts = {
        "weights": _weigh(model, quantization),
        "gradients": sum(parameter.nbytes for parameter in trained),
        "optimizer": sum(2 * p.nbytes if state is None else state * p.numel() for p in trained),
        "activations": activations,
    }
    return {**parts, "together": sum(parts.values())}


def _weigh(model: Any, quantization: str | None) -> int:
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if quantization is None:
        return size
    output = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not output]
    weights = [layer.weight for layer in layers if not layer.weight.requires_grad]
    return size + sum(round(WEIGHT_BYTES[quantization] * w.numel()) - w.nbytes for w in weights)


def _measure_activations(model: nn.Module, batch: dict[str, Tensor]) -> tuple[int, int, int]:
    """Bytes a forward pass keeps, bytes of the inputs of the model's blocks, and the number of these."""
    known = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}
    inputs: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in known:
            kept[tensor.untyped_storage()._cdata] = tensor  # holding it, so that no other gets its place
        return tensor

    def note(block: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(sum(value.nbytes for value in arguments[:1] if isinstance(value, Tensor)))

    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    hooks = [block.register_forward_pre_hook(note) for block in blocks]
    try:
        with (
            patch.object(nn.functional, "scaled_dot_product_attention", _attend),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), sum(inputs), len(blocks)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention in one operation, as devices have it; on the meta device torch would keep scores and probabilities.

    What it keeps does not depend on the mask, and with `enable_gqa` keys and values stay as few as they are.
    """
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, is_causal, scale=scale)[0]

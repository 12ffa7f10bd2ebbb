"""An adapter as a LoRA adapter of stock PEFT: the update of each layer cut off at a rank."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.adapters.base import TRAINING_RECORD, explained, quiet
from fourierft.adapters.merge import PROCESSOR_FILES
from fourierft.errors import ExportError
from fourierft.export.exported import Exported, check_difference, file_size, measure_difference
from fourierft.export.singular import decompose
from fourierft.export.subject import Subject, answer, draw_inputs, load_subject
from fourierft.files import as_path, check_output, write_text, written_beside
from fourierft.format.config import WEIGHTS_FILE
from fourierft.format.json_file import read_json
from fourierft.format.weights import PREFIX, SUFFIX, read_weights
from fourierft.spectral import delta_weight
from fourierft.training.arguments import DataArguments
from fourierft.training.evaluation import evaluate
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.parameters import ParameterLayer

RANKS_OF_VLLM = (1, 8, 16, 32, 64, 128, 256, 320, 512)
HEADS_OF_VLLM = ("classifier", "score")
RECORD = "export.json"
ADAPTER = "default"  # as PEFT calls the one that it loads


class Kept(NamedTuple):
    """What is kept of a layer's update.

    Fields:
        rank: of the LoRA.
        energy: the share of ||dW||^2.
    """

    rank: int
    energy: float


def export_lora(
    source: str | Path,
    output: str | Path,
    rank: int | None = None,
    energy: float = 0.99,
    test_file: str | None = None,
    *,
    base: str | None = None,
    trust_remote_code: bool = False,
    allow_other_base: bool = False,
) -> Exported:
    """Write an adapter as LoRA, and compare what stock PEFT makes of it.

    Args:
        source: folder or hub id of the adapter.
        output: folder to make; may be there if it is empty.
        rank: of every layer; None for the least that keeps `energy`.
        energy: share of ||dW||^2 to keep in every layer.
        test_file: of rows that both are scored on, if `fourierft train` wrote the adapter.
        base, trust_remote_code, allow_other_base: as of `load_subject`.

    Raises: ExportError, if the adapter has what LoRA has not, or stock PEFT reads another model than was written.
        OutputExistsError, if `output` holds something. FourierFTError, if adapter, base or data are not as they should.
    """
    output = as_path(output, "output")
    check_output(output)
    subject = load_subject(source, base, trust_remote_code, allow_other_base)
    adapter, inputs = subject.checkpoint.path, draw_inputs(subject.base)
    whole = answer(subject.model, inputs)
    with written_beside(output) as folder:
        kept = write_lora(subject, folder, rank, energy)
        with explained(str(folder)), quiet():
            found = answer(PeftModel.from_pretrained(copy.deepcopy(subject.base), folder).eval(), inputs)
        exact = check_difference(found, answer(subject.model, inputs), "the LoRA adapter in stock PEFT")
        notes = [
            f"in stock PEFT it gives what was kept: {exact}",
            f"and what the adapter gives: {measure_difference(found, whole)}",
            describe_vllm(subject, max(own.rank for own in kept.values())),
        ]
        copy_companions(adapter, folder)
        if test_file is not None:
            notes.append(score(adapter, folder, test_file, base, allow_other_base))
        layers = {name: own._asdict() for name, own in kept.items()}
        write_text(folder / RECORD, json.dumps({"from": str(adapter), "notes": notes, "layers": layers}, indent=2))
    rows = [("layer", "out x in", "n", "rank", "energy kept")]
    for name, layer in subject.layers.items():
        shape, n = f"{layer.out_features} x {layer.in_features}", subject.checkpoint.coefficients[name].shape[-1]
        rows.append((name, shape, str(n), str(kept[name].rank), f"{kept[name].energy:.2%}"))
    sizes = {"the adapter": file_size(adapter / WEIGHTS_FILE), "as LoRA": file_size(output / WEIGHTS_FILE)}
    return Exported(output, notes, sizes, rows)


@torch.no_grad()
def write_lora(subject: Subject, folder: Path, rank: int | None, energy: float) -> dict[str, Kept]:
    """Write config and weights of the LoRA adapter into a folder.

    What it lacks of each update is taken out of the base weights of `subject.model`, which then answers as it should.

    Returns: what is kept of each layer.

    Raises: ExportError, if the adapter has what LoRA has not.
    """
    kept: dict[str, Kept] = {}
    tensors = {key: value for key, value in read_weights(subject.checkpoint.path).items() if not key.endswith(SUFFIX)}
    for name, layer in subject.layers.items():
        check_layer(name, layer)
        base: Any = layer.get_base_layer()
        _, coefficients, basis, scaling = layer.terms.of(ADAPTER)
        found = decompose(coefficients, basis, scaling, getattr(base, "padding_idx", None))
        own = found.rank_for(energy) if rank is None else min(rank, len(found.values))
        kept[name] = Kept(own, found.energy(own))
        b, a = found.split(own)
        base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)  # it may be tied to another's
        base.weight += layer.in_layout((b @ a).float() - delta_weight(coefficients, basis, scaling))
        for key, value in shape_factors(base, b, a).items():
            tensors[f"{PREFIX}{name}.{key}"] = value.float().contiguous()
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    make_config(subject, {name: own.rank for name, own in kept.items()}).save_pretrained(str(folder))
    return kept


def make_config(subject: Subject, ranks: dict[str, int]) -> LoraConfig:
    """The LoRA adapter's config, in which alpha is r everywhere: the scaling is in the weights."""
    content, largest = subject.checkpoint.config.content, max(ranks.values())
    names = sorted(ranks, key=len, reverse=True)  # PEFT takes the first that a name ends with
    others = {re.escape(name): ranks[name] for name in names} if len(set(ranks.values())) > 1 else {}
    bias = {"all": "all", "fourierft_only": "lora_only"}.get(content.get("bias") or "none", "none")
    return LoraConfig(
        r=largest,
        lora_alpha=largest,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=find_targets(subject.base, ranks),
        fan_in_fan_out=any(isinstance(layer.get_base_layer(), Conv1D) for layer in subject.layers.values()),
        bias=bias,  # type: ignore[arg-type]
        modules_to_save=content.get("modules_to_save"),
        task_type=subject.checkpoint.task_type,
        base_model_name_or_path=subject.place.name,
        revision=subject.place.options.get("revision"),
        inference_mode=True,
    )


def check_layer(name: str, layer: FourierFTLayer) -> None:
    """Raise ExportError if PEFT's LoRA has no layer of this kind that does the same."""
    base: Any = layer.get_base_layer()
    if isinstance(layer, ParameterLayer):
        raise ExportError(f"{name} is a parameter, but only layers can be exported as LoRA; use `fourierft merge`")
    if getattr(base, "groups", 1) > 1 or any(step > 1 for step in getattr(base, "dilation", ())):
        raise ExportError(
            f"{name} is a convolution with groups or dilation, which PEFT's LoRA reads "
            "differently; use `fourierft merge`"
        )


def shape_factors(base: nn.Module, b: Tensor, a: Tensor) -> dict[str, Tensor]:
    """The factors as PEFT's LoRA of this kind of layer has them, by its names.

    Args:
        base: the layer.
        b: [out, r].
        a: [r, in].
    """
    if isinstance(base, nn.Embedding):  # PEFT adds (B A)^T to its weight
        return {"lora_embedding_A": b.T, "lora_embedding_B": a.T}
    kernel: Any = getattr(base, "kernel_size", ())
    return {
        "lora_A.weight": a.reshape(len(a), -1, *kernel) if kernel else a,
        "lora_B.weight": b.reshape(*b.shape, *(1 for _ in kernel)),
    }


def find_targets(model: nn.Module, layers: Iterable[str]) -> list[str] | str:
    """`target_modules` that name these layers and no others: last parts of names if they do, or else a pattern."""
    wanted = set(layers)
    leaves = {name.rpartition(".")[2] for name in wanted}
    named = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in leaves}
    return sorted(leaves) if named == wanted else "|".join(map(re.escape, sorted(wanted)))


def describe_vllm(subject: Subject, rank: int) -> str:
    """What vLLM does with the result."""
    others = [name for name, layer in subject.layers.items() if not isinstance(layer.get_base_layer(), nn.Linear)]
    saved = (*subject.checkpoint.saved_modules, *subject.checkpoint.matrices)
    others += [name for name in saved if name.split(".")[0] not in HEADS_OF_VLLM]
    if others:
        return f"vLLM takes no LoRA with {others[0]}; it takes linear layers, and heads called classifier or score"
    least = next((size for size in RANKS_OF_VLLM if size >= rank), None)
    if least is None:
        return f"rank {rank} is beyond vLLM's largest, {RANKS_OF_VLLM[-1]}; give --rank, or a lower --energy"
    return f"vLLM reads it with --enable-lora --max-lora-rank {least}, if it takes LoRA on these layers of the model"


def copy_companions(adapter: Path, folder: Path) -> None:
    """Copy what tells how inputs are read, and the record of the training with the method that it is now."""
    for name in PROCESSOR_FILES:
        if (adapter / name).is_file():
            shutil.copyfile(adapter / name, folder / name)
    if (adapter / TRAINING_RECORD).is_file():
        record = read_json(adapter / TRAINING_RECORD)
        if isinstance(record, dict):
            write_text(folder / TRAINING_RECORD, json.dumps({**record, "method": "lora"}, indent=2) + "\n")


def score(adapter: Path, folder: Path, test_file: str, base: str | None, allow_other_base: bool) -> str:
    """The metrics of the adapter and of the result on a file."""
    data = DataArguments(test_file=test_file)
    before, after = (
        evaluate(path, data, base_model=base, allow_other_base=allow_other_base).metrics for path in (adapter, folder)
    )
    told = [f"{name} {value:.4f} before, {after[name]:.4f} after" for name, value in before.items()]
    return "; ".join(told)

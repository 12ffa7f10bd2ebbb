"""An adapter added to its base for good: a full model that needs neither PEFT nor this package."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from torch import nn
from transformers import AutoProcessor, PreTrainedModel
from transformers.utils import cached_file

from fourierft.adapters.attachment import attach
from fourierft.adapters.base import BaseSource, explained, quiet
from fourierft.errors import ConfigError
from fourierft.files import as_path, check_output, written_beside
from fourierft.format.checkpoint import AdapterCheckpoint, read_checkpoint
from fourierft.format.hub import offline_if_unreachable
from fourierft.shared import shared
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.model import FourierFTModel
from fourierft.tuner.registration import disable, enable

PROCESSOR_FILES = ("tokenizer_config.json", "tokenizer.json", "processor_config.json", "preprocessor_config.json")
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        output: folder of the full model.
        base: the base model it was merged into.
        model_class: class of the saved model.
        dtype: of its weights.
        quantization: how they are quantised, in the word of `--quantization` or of transformers; None if they are not.
        layers: number of layers changed.
        rounding: layer -> ||stored - (W + dW)|| / ||dW||, Frobenius norms: the error of rounding the sum to the dtype,
            or of quantising it. Empty if the weights are float32 or float64, which lose nothing worth naming.
        processor: whether a tokenizer or image processor was saved beside the model.
    """

    output: Path
    base: str
    model_class: str
    dtype: str
    quantization: str | None
    layers: int
    rounding: dict[str, float]
    processor: bool

    def describe_rounding(self) -> str:
        """One sentence on what rounding or quantising lost; empty if nothing is worth saying."""
        if not self.rounding:
            return ""
        worst = max(self.rounding, key=lambda name: self.rounding[name])
        shares = f"{statistics.median(self.rounding.values()):.1%} of dW in the median layer"
        shares += f" and {self.rounding[worst]:.1%} in the worst, {worst}"
        if self.quantization:
            return f"quantising the sum ({self.quantization}) erred by {shares}; merge into a base of floats to keep dW"
        return f"rounding to {self.dtype} lost {shares}; --dtype float32 keeps all of it"


def merge_adapter(
    source: str | Path,
    output: str | Path,
    base: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    quantization: str | None = None,
    allow_other_base: bool = False,
) -> Merged:
    """Add an adapter to its base model and save the whole, with the tokenizer if one is found.

    Args:
        source: folder or hub id of the adapter.
        output: folder to make; may be there if it is empty.
        base: folder or hub id instead of the one the adapter names.
        dtype: of the model saved: auto (the base's on disk), float32, bfloat16, float16 or float64.
        trust_remote_code: run model code that comes with the base.
        quantization: nf4, int8 or torchao-int8 quantises the base first, adds dW to the weights dequantised, and
            quantises the sum. A base that is stored quantised needs no word for that.
        allow_other_base: merge into a base of the same shapes that the adapter was not made for.

    Returns: Merged.

    Raises: OutputExistsError, if `output` holds something. CheckpointError, if the adapter or the base is missing,
        damaged, or they do not fit. ShapeError, if a layer has another shape than the adapter was made for, or is too
        small for n_frequency. MissingExtraError, if a
        library of quantisation is not installed.
    """
    output = as_path(output, "output")
    check_output(output)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype} is unknown; use one of {', '.join(DTYPES)}")
    checkpoint = read_checkpoint(source)
    place = BaseSource(checkpoint, base, trust_remote_code, allow_other_base)
    whole = {**checkpoint.saved_modules, **checkpoint.matrices}
    model = place.load(dtype, quantization, sorted({name.rpartition(".")[0] for name in whole}))
    merged, rounding = merge_model(model, checkpoint, allow_other_base)
    kind = quantization or getattr(merged, "quantization_method", None)
    with written_beside(output) as folder:
        with quiet():  # transformers 5.23 can't undo what it does to weights that it reads quantised
            merged.save_pretrained(folder, save_original_format=kind is None)
        processor = save_processor(folder, checkpoint.path, place)
    return Merged(
        output=output,
        base=place.name,
        model_class=type(merged).__name__,
        dtype=str(merged.dtype).removeprefix("torch."),
        quantization=kind,
        layers=len(checkpoint.coefficients),
        rounding=rounding,
        processor=processor,
    )


def merge_model(
    model: PreTrainedModel, checkpoint: AdapterCheckpoint, allow_other_base: bool = False
) -> tuple[PreTrainedModel, dict[str, float]]:
    """The base model with the adapter's dW added and its saved modules in place, and `Merged.rounding`.

    Dtypes and quantisation stay the base's.

    Args:
        model: the base; it is changed.
        checkpoint: the adapter.
        allow_other_base: as of `attach`.

    Raises: CheckpointError or ShapeError, if the model is not the base that the adapter was made for.
    """
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters(remove_duplicate=False)}
    with own_tuner(), explained(str(checkpoint.path)), quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="merging into")  # `rounding` says it layer by layer
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)  # PEFT's call
        adapted = attach(model, checkpoint, allow_other_base)
        layers = {layer.path: layer for layer in adapted.modules() if isinstance(layer, FourierFTLayer)}
        merged = adapted.merge_and_unload()
    for name, parameter in merged.named_parameters():
        if type(parameter) is nn.Parameter:
            parameter.data = parameter.data.to(dtypes[name])
            parameter.requires_grad_(True)
    return merged, {name: loss for name, layer in layers.items() for loss in layer.merge_loss.values()}


def save_processor(folder: Path, adapter: Path, place: BaseSource) -> bool:
    """Save the tokenizer or image processor that lies beside the adapter or else beside the base; False if none."""
    sources: list[tuple[str, dict[str, Any]]] = [(str(adapter), {}), (place.name, place.options)]
    for source, options in sources:
        if not any(has_file(source, name, options.get("revision")) for name in PROCESSOR_FILES):
            continue  # transformers would make an empty one up
        with explained(source), quiet():
            processor = AutoProcessor.from_pretrained(source, **options)
        processor.save_pretrained(folder)
        return True
    return False


def has_file(source: str, name: str, revision: str | None) -> bool:
    """Whether a folder, or a hub id as far as it can be reached, has a file."""
    missing_is_fine: dict[str, Any] = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    with offline_if_unreachable(source):
        return cached_file(source, name, revision=revision, **missing_is_fine) is not None


@shared
@contextmanager
def own_tuner() -> Iterator[None]:
    """This package's tuner behind FourierFT; what stood there before comes back."""
    was_enabled = PEFT_TYPE_TO_TUNER_MAPPING[PeftType.FOURIERFT] is FourierFTModel
    enable()
    try:
        yield
    finally:
        if not was_enabled:
            disable()

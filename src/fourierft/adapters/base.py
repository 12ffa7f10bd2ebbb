"""The base model an adapter was made for: its class, its layers' shapes without its weights, its weights one by one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import cached_file

from fourierft.adapters.quantization import check_libraries, quantization_settings
from fourierft.errors import CheckpointError, ConfigError
from fourierft.format.checkpoint import AdapterCheckpoint
from fourierft.format.hub import find_near, offline_if_unreachable

AUTO_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
ADAPTABLE = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
LABELLED = ("SEQ_CLS", "TOKEN_CLS")
INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"
TRAINING_RECORD = "fourierft.json"


class BaseSource:
    """Where the base model of a checkpoint is, and what can be known of it without loading it.

    Args:
        checkpoint: the adapter.
        base: folder or hub id instead of the one the adapter names.
        trust_remote_code: run model code that comes with the base.

    Raises: CheckpointError, if no base is named, it cannot be reached, or is not of the adapter's kind.
    """

    def __init__(self, checkpoint: AdapterCheckpoint, base: str | None = None, trust_remote_code: bool = False):
        self.checkpoint = checkpoint
        name = base or checkpoint.base_model
        if not name:
            raise CheckpointError(f"{checkpoint.path} names no base model; give it with --model_name_or_path")
        self.name = str(name)
        self.options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        if base is None and checkpoint.revision:
            self.options["revision"] = checkpoint.revision
        with explained(self.name), quiet():
            self.config = AutoConfig.from_pretrained(self.name, **self.options)
        self.loader = model_loader(checkpoint, self.config)
        if checkpoint.task_type in LABELLED or label_names(checkpoint.path):
            self._set_labels(checkpoint)

    def build_meta(self) -> PreTrainedModel:
        """The model's modules with shapes and names, on the meta device: no weights, hardly any time."""
        with explained(self.name), quiet(), torch.device("meta"):
            if hasattr(self.loader, "from_config"):
                model = self.loader.from_config(self.config, trust_remote_code=self.options["trust_remote_code"])
            else:
                model = self.loader(self.config)
            fit_vocabulary(model, self.checkpoint)
            return model

    def load(
        self, dtype: str = "auto", quantization: str | None = None, left_out: Sequence[str] = ()
    ) -> PreTrainedModel:
        """The model with its weights, in `dtype` ("auto": as they are on disk), quantised but for modules left out.

        Raises: MissingExtraError, if a library of quantisation is not installed.
        """
        settings = quantization_settings(quantization, dtype, left_out)
        with explained(self.name), quiet():
            model = self.loader.from_pretrained(self.name, config=self.config, dtype=dtype, **settings, **self.options)
            fit_vocabulary(model, self.checkpoint)
            return model

    def _set_labels(self, checkpoint: AdapterCheckpoint) -> None:
        """Give the config the adapter's labels: by name if its training left them, or else as many as its head has."""
        labels = label_names(checkpoint.path)
        if labels:
            self.config.id2label = dict(enumerate(labels))
            self.config.label2id = {label: index for index, label in enumerate(labels)}
            return
        shapes = {name: parameter.shape for name, parameter in self.build_meta().named_parameters()}
        for name, tensor in checkpoint.saved_modules.items():
            shape = shapes.get(name)
            if shape is None or tensor.shape == shape or tensor.shape[1:] != shape[1:]:
                continue
            if shape[0] == self.config.num_labels:
                self.config.num_labels = tensor.shape[0]
                return


class BaseWeights:
    """Weights of a base model, read one at a time from safetensors files on this machine.

    Args:
        source: the base model; files in the hub's cache count as here, nothing is downloaded.
        model: the base on the meta device: its file may or may not carry its `base_model_prefix`, and of weights that
            are tied it carries one.
    """

    def __init__(self, source: BaseSource, model: PreTrainedModel):
        self.prefix, self.ties = model.base_model_prefix, model.all_tied_weights_keys
        self.files = weight_files(source)

    def read(self, layer: str) -> torch.Tensor | None:
        """The weight of a layer as it lies in the file; None if it is not here under this name."""
        own = f"{layer}.weight"
        source = self.ties.get(own, own)
        for weight in (own, source, *(target for target, other in self.ties.items() if other == source)):
            for name in (weight, weight.removeprefix(f"{self.prefix}."), f"{self.prefix}.{weight}"):
                if name in self.files:
                    with safe_open(self.files[name], framework="pt") as file:
                        return file.get_tensor(name)
        return None


def fit_vocabulary(model: PreTrainedModel, checkpoint: AdapterCheckpoint) -> None:
    """Give a base the vocabulary that was resized when the adapter was trained, which brings head and embedding whole.

    Raises: CheckpointError, if the adapter brings one of the two alone, and they are not tied.
    """
    whole = {**checkpoint.saved_modules, **checkpoint.matrices}
    weights = {id(p): name for name, p in model.named_parameters(remove_duplicate=False) if name in whole}
    if not weights:
        return
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    own = {id(table.weight): len(table.weight) for table in tables if isinstance(table, (nn.Linear, nn.Embedding))}
    sizes = {len(whole[weights[key]]) for key in own if key in weights}
    if not sizes or sizes == set(own.values()):
        return
    if len(sizes) > 1 or not set(own) <= set(weights):
        raise CheckpointError(
            f"the adapter brings {', '.join(weights.values())} for a vocabulary of {max(sizes)}, the base has "
            f"{max(own.values())}, and the other of head and embedding is not in its file; "
            "save the base with its new vocabulary, and name that with --base"
        )
    model.resize_token_embeddings(sizes.pop(), mean_resizing=False)


def check_matrices(checkpoint: AdapterCheckpoint, base: str | None = None) -> None:
    """Check that what an adapter brings of head and embedding is what its base has, and so need not be kept.

    Args:
        checkpoint: the adapter.
        base: folder or hub id instead of the base the adapter names.

    Raises: CheckpointError, if it is not, or the base is not here to be asked.
    """
    if not checkpoint.matrices:
        return
    advice = "adapters of one base share it; save the base that this one was trained on, and name that"
    source = BaseSource(checkpoint, base)
    weights = BaseWeights(source, source.build_meta())
    for name, tensor in checkpoint.matrices.items():
        own = weights.read(name.removesuffix(".weight"))
        if own is None:
            raise CheckpointError(
                f"{checkpoint.path} brings {name} {list(tensor.shape)} whole, and whether that is the base's cannot be "
                f"seen, as the weights of {source.name} are not on this machine as safetensors; fetch them, or save "
                "the adapter again with save_embedding_layers=False"
            )
        if own.shape != tensor.shape or not torch.equal(own.to(tensor.dtype), tensor):
            raise CheckpointError(
                f"{checkpoint.path} brings {name} {list(tensor.shape)} whole, and it is not that of the base "
                f"{source.name} {list(own.shape)}; {advice}"
            )


def weight_files(source: BaseSource) -> dict[str, Path]:
    """Tensor name -> file that holds it, for a base with safetensors on this machine; empty for any other."""
    options = {
        "revision": source.options.get("revision"),
        "local_files_only": True,
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    index = cached_file(source.name, INDEX_FILE, **options)
    single = cached_file(source.name, WEIGHTS_FILE, **options)
    try:
        if index is not None:
            names = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
            paths = {name: Path(index).parent / file for name, file in names.items()}
            return {name: path for name, path in paths.items() if path.is_file()}
        if single is not None:
            with safe_open(single, framework="pt") as file:
                return {name: Path(single) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"the weights of the base {source.name} are damaged ({error}); get it again") from error
    return {}


def label_names(folder: Path) -> list[str]:
    """Names of the classes from the record that `fourierft train` leaves beside an adapter; empty if there is none."""
    try:
        record = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))
        return [str(label) for label in record["labels"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def model_loader(checkpoint: AdapterCheckpoint, config: Any) -> Any:
    """The class of transformers that loads the base: by task, or else the one the adapter or the base names.

    Raises: ConfigError, if that is no class of transformers.
    """
    if checkpoint.task_type is not None:
        if checkpoint.task_type not in AUTO_CLASSES:
            allowed = ", ".join(AUTO_CLASSES)
            raise ConfigError(f"{checkpoint.path} has task_type={checkpoint.task_type!r}, known are {allowed}")
        return getattr(transformers, AUTO_CLASSES[checkpoint.task_type])
    mapping = checkpoint.config.get("auto_mapping") or {}
    names = [mapping.get("base_model_class"), *(config.architectures or [])]
    name = next((name for name in names if name), "AutoModel")
    loader = getattr(transformers, name, None)
    if loader is None or not hasattr(loader, "from_pretrained"):
        raise ConfigError(
            f"{checkpoint.path} was made for a {name}, which transformers does not have; load it in Python"
        )
    return loader


def find_layer(model: nn.Module, name: str, source: str) -> nn.Module:
    """The layer of a base model that an adapter changes.

    Raises: CheckpointError, if the model has no such layer or it is of a kind that no adapter changes.
    """
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise CheckpointError(
            f"the base {source} has no layer {name}; the adapter was made for another model"
        ) from None
    if not isinstance(layer, ADAPTABLE):
        raise CheckpointError(
            f"{name} of the base {source} is a {type(layer).__name__}; adapters change linear layers, convolutions and "
            "embeddings alone"
        )
    return layer


def layer_shape(layer: Any) -> tuple[int, int]:
    """(out_features, in_features) of what `find_layer` finds, whichever way round the layer keeps its weight."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if isinstance(layer, Conv1D):
        return layer.weight.shape[1], layer.weight.shape[0]
    return len(layer.weight), layer.weight.numel() // len(layer.weight)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what transformers raises for a model it cannot load into one sentence."""
    try:
        with offline_if_unreachable(name):
            yield
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        check_libraries(error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = find_near(name) or "give its folder or hub id with --model_name_or_path"
        raise CheckpointError(f"the base model {name} cannot be loaded ({reason}); {hint}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no table of new weights: the adapter brings them, or they are meant to be new."""
    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()

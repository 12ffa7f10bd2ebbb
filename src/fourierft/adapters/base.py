"""The base model an adapter was made for: its class, and its layers' shapes without its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fourierft.adapters.quantization import check_libraries, quantization_settings
from fourierft.errors import CheckpointError, ConfigError, FourierFTError, ShapeError
from fourierft.format.checkpoint import AdapterCheckpoint
from fourierft.format.hub import find_near, offline_if_unreachable
from fourierft.format.identity import check_same_base, identify_base
from fourierft.format.json_file import read_json
from fourierft.format.shapes import Shape
from fourierft.format.weights import base_path
from fourierft.shared import shared
from fourierft.tuner.parameters import matrix_shape
from fourierft.tuner.record import layer_shape

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
TRAINING_RECORD = "fourierft.json"


class BaseSource:
    """Where the base model of a checkpoint is, and what can be known of it without loading it.

    Args:
        checkpoint: the adapter.
        base: folder or hub id instead of the one the adapter names.
        trust_remote_code: run model code that comes with the base.
        allow_other_base: take a model of the same shapes that the adapter was not made for.

    Raises: CheckpointError, if no base is named, it cannot be reached, is not of the adapter's kind, or is another one
        than the adapter was made for.
    """

    def __init__(
        self,
        checkpoint: AdapterCheckpoint,
        base: str | None = None,
        trust_remote_code: bool = False,
        allow_other_base: bool = False,
    ):
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
        if not allow_other_base:
            check_same_base(
                checkpoint.config.made_for, identify_base(self.name, self.options.get("revision")), checkpoint.path
            )
        self.loader = model_loader(checkpoint, self.config)
        if checkpoint.task_type in LABELLED or label_names(checkpoint.path) or problem_type(checkpoint.path):
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
        """Give the config the adapter's labels: by name if its training left them, or else as many as its head has.

        And what the outputs mean, if the training said so: pipelines of transformers take them for classes else.
        """
        labels = label_names(checkpoint.path)
        self.config.problem_type = problem_type(checkpoint.path) or self.config.problem_type
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
            f"the adapter has {', '.join(weights.values())} for a vocabulary of {max(sizes)}, "
            f"but the base has {max(own.values())}, and the adapter's file has only "
            "one of head and embedding; save the base with its new vocabulary, and "
            "give that with --model_name_or_path"
        )
    model.resize_token_embeddings(sizes.pop(), mean_resizing=False)


def label_names(folder: Path) -> list[str]:
    """Names of the classes from the record that `fourierft train` leaves beside an adapter; empty if there is none."""
    try:
        labels = read_json(folder / TRAINING_RECORD)["labels"]
    except (CheckpointError, KeyError, TypeError):
        return []
    return [str(label) for label in labels] if isinstance(labels, list) else []


def problem_type(folder: Path) -> str | None:
    """What the outputs mean, in the words of transformers' configs, from the same record; None if it does not say."""
    try:
        content = read_json(folder / TRAINING_RECORD).get("problem_type")
    except (CheckpointError, AttributeError):
        return None
    return content if isinstance(content, str) else None


def model_loader(checkpoint: AdapterCheckpoint, config: Any) -> Any:
    """The class of transformers that loads the base: by task, or else the one the adapter or the base names.

    Raises: ConfigError, if that is no class of transformers.
    """
    if checkpoint.task_type is not None:
        if checkpoint.task_type not in AUTO_CLASSES:
            allowed = ", ".join(AUTO_CLASSES)
            raise ConfigError(f"{checkpoint.path} has task_type={checkpoint.task_type!r}, known are {allowed}")
        return getattr(transformers, AUTO_CLASSES[checkpoint.task_type])
    mapping = checkpoint.config.content.get("auto_mapping") or {}
    names = [mapping.get("base_model_class"), *(config.architectures or [])]
    name = next((name for name in names if name), "AutoModel")
    with explained(name):
        loader = getattr(transformers, name, None)
    if not isinstance(loader, type) or not (issubclass(loader, PreTrainedModel) or hasattr(loader, "_model_mapping")):
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
    if isinstance(layer, BaseTunerLayer):  # of other adapters
        layer = layer.get_base_layer()
    if not isinstance(layer, ADAPTABLE):
        raise CheckpointError(
            f"{name} of the base {source} is a {type(layer).__name__}; adapters change "
            "only linear layers, convolutions and embeddings"
        )
    return layer


def find_shape(model: nn.Module, name: str, source: str) -> Shape:
    """(out_features, in_features) of the layer that `find_layer` finds, or of each matrix of a parameter of that name.

    Raises: CheckpointError, as `find_layer`, or if the parameter is no matrix of floats.
    """
    holder, _, leaf = name.rpartition(".")
    if name in dict(model.named_parameters(remove_duplicate=False)):
        try:
            return matrix_shape(model.get_submodule(holder), leaf)
        except ConfigError as error:
            raise CheckpointError(f"{name} of the base {source} does not fit the adapter: {error}") from None
    shape = layer_shape(find_layer(model, name, source))
    assert shape is not None  # every kind that is adapted has one
    return shape


def check_saved_modules(model: nn.Module, checkpoint: AdapterCheckpoint, base: str) -> None:
    """Raise CheckpointError if a parameter the adapter saved whole is not in the base, or not of its shape."""
    there = (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
    parameters = {base_path(name): tensor for name, tensor in there}
    for name, tensor in {**checkpoint.saved_modules, **checkpoint.matrices}.items():
        if name not in parameters:
            raise CheckpointError(
                f"the adapter has {name}, but the base {base} does not; give the right --model_name_or_path"
            )
        if parameters[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} has the shape {list(tensor.shape)} in the adapter, but {list(parameters[name].shape)} "
                f"in the base {base}; give the right --model_name_or_path"
            )


def check_layers(model: nn.Module, checkpoint: AdapterCheckpoint, base: str) -> None:
    """Raise CheckpointError or ShapeError if the base lacks a layer of the adapter, or has it in another shape."""
    for name, coefficients in checkpoint.coefficients.items():
        checkpoint.check_layer(name, find_shape(model, name, base), base)
        if coefficients.dim() > 1 and coefficients.shape[:-1] != model.get_parameter(name).shape[:-2]:
            raise ShapeError(
                f"{name} is {list(model.get_parameter(name).shape)} in the base {base}, but the adapter has "
                f"coefficients {list(coefficients.shape)}; use the base model that it was made for"
            )


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what transformers raises for a model it cannot load into one sentence."""
    try:
        with offline_if_unreachable(name):
            yield
    except FourierFTError:
        raise
    except Exception as error:  # transformers raises what it likes
        check_libraries(error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = find_near(name) or "give its folder or hub id with --model_name_or_path"
        raise CheckpointError(f"the base model {name} cannot be loaded ({reason}); {hint}") from error


@shared
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

"""Base models and tokenizers, from the hub or a directory, with a head for the task on top."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import TaskType
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from fourierft.adapters.base import quiet
from fourierft.adapters.quantization import check_libraries, quantization_settings
from fourierft.errors import CheckpointError, ConfigError
from fourierft.format.hub import find_near, is_path, offline_if_unreachable
from fourierft.training.arguments import ModelArguments
from fourierft.tuner.quantization import keep_layout

DTYPES = ("float32", "bfloat16", "float16", "auto")
LONGEST = 512
CONTEXTS = (  # what configs call the number of tokens that a model takes
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length"),
    *("model_max_length", "n_ctx"),
)


class Wanted(Protocol):
    """What a task wants of a model; a `families.Family`, for one.

    Attributes:
        name: of the task, for errors.
        needs_head: whether the model gets a head that was not pretrained.
        model_class: class of transformers.
        task_type: PEFT's word for what it does.
    """

    @property
    def name(self) -> str: ...
    @property
    def needs_head(self) -> bool: ...
    @property
    def model_class(self) -> Any: ...
    @property
    def task_type(self) -> TaskType | None: ...
    def model_settings(self) -> dict[str, Any]:
        """What the model's config must say."""


@dataclass(frozen=True)
class BaseModel:
    """A model with a head for the task.

    Attributes:
        heads: names of the modules above the pretrained body, and of those in it that have no pretrained weights.
        fresh: names of the parameters that its files lack, which were drawn.
        is_quantized: whether its frozen weights are quantised, or would be if it were more than shapes.
        revision: of it on the hub; None of a folder, and of the hub's main one.
        adapter: that training goes on from; None for a new one.
    """

    model: PreTrainedModel
    heads: tuple[str, ...]
    task_type: TaskType | None = TaskType.SEQ_CLS
    fresh: tuple[str, ...] = ()
    is_quantized: bool = False
    revision: str | None = None
    adapter: str | None = None


def load_model(
    arguments: ModelArguments,
    task: Wanted,
    seed: int,
    only_shapes: bool = False,
) -> BaseModel:
    """Load a model with a head for `task`, unless it needs none; what is not in its files is drawn from `seed`.

    Args:
        only_shapes: put it on torch's meta device, without numbers, and quantise nothing.

    Raises: ConfigError, if the model can't be had. CheckpointError, if its files are not those of such a model.
        MissingExtraError, if a library of quantisation is not installed.
    """
    if arguments.dtype not in DTYPES:
        raise ConfigError(f"dtype={arguments.dtype} is unknown; use one of {', '.join(DTYPES)}")
    name = required_name(arguments)
    if arguments.quantization and task.needs_head:
        raise ConfigError(
            f"quantization={arguments.quantization} is for language models, but this is a {task.name}, whose head must "
            "be trained; leave it out, or use --task answers or chat"
        )
    if arguments.adapter_name_or_path and task.needs_head:
        raise ConfigError(
            f"adapter_name_or_path={arguments.adapter_name_or_path} is for language models, but this is a {task.name}, "
            "whose head belongs to its labels; leave it out, or use --task answers, chat or preferences"
        )
    quantization = quantization_settings(arguments.quantization, arguments.dtype)
    if only_shapes:
        quantization = {"device_map": "meta"}
    set_seed(seed)
    with explained(name, "model_name_or_path"), quiet():
        model, report = task.model_class.from_pretrained(
            name,
            revision=arguments.model_revision,
            trust_remote_code=arguments.trust_remote_code,
            dtype=arguments.dtype,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **task.model_settings(),
            **quantization,
        )
    keep_layout(model)
    revision = None if Path(name).exists() or arguments.model_revision == "main" else arguments.model_revision
    absent = {*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])}
    if not task.needs_head:
        if absent:
            raise CheckpointError(f"the weights of {name} are not those of a {type(model).__name__}; use another model")
        is_quantized = bool(arguments.quantization or getattr(model, "quantization_method", None))
        return BaseModel(model, (), task.task_type, (), is_quantized, revision, arguments.adapter_name_or_path)
    heads, fresh = _find_heads(model, absent, name), tuple(sorted(absent))
    return BaseModel(model, heads, task.task_type, fresh, False, revision, arguments.adapter_name_or_path)


def outline_model(arguments: ModelArguments, task: Wanted) -> BaseModel | None:
    """A model of which nothing but its config is there, without numbers; None if that can't be had either.

    Its files are taken to hold all of the body.
    """
    name, trusted = required_name(arguments), arguments.trust_remote_code
    try:
        with offline_if_unreachable(name), quiet():
            config = AutoConfig.from_pretrained(
                name, revision=arguments.model_revision, trust_remote_code=trusted, **task.model_settings()
            )
    except (OSError, ValueError):
        return None
    dtype = getattr(config, "dtype", None) if arguments.dtype == "auto" else getattr(torch, arguments.dtype)
    with torch.device("meta"), quiet():
        model = task.model_class.from_config(config, trust_remote_code=trusted).to(dtype or torch.float32)
    heads = _find_heads(model, set(), name) if task.needs_head else ()
    is_quantized, adapter = arguments.quantization is not None, arguments.adapter_name_or_path
    return BaseModel(model, heads, task.task_type, is_quantized=is_quantized, adapter=adapter)


def load_tokenizer(arguments: ModelArguments, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with a padding token.

    Args:
        options: of transformers, beyond those of `arguments`.

    Raises: ConfigError, if it can't be had.
    """
    name = arguments.tokenizer_name or required_name(arguments)
    with explained(name, "tokenizer_name" if arguments.tokenizer_name else "model_name_or_path"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=None if arguments.tokenizer_name else arguments.model_revision,
            trust_remote_code=arguments.trust_remote_code,
            **options,
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigError(f"the tokenizer of {name} has neither a padding nor an end token; use another")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def longest_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    """The number of tokens texts are cut to: `wanted`, or what the model takes, at most 512.

    Raises: ConfigError, if the model can't take as many as are wanted.
    """
    limit = context_length(model, tokenizer)
    if wanted is None:
        return min(limit, LONGEST)
    if not 0 < wanted <= limit:
        raise ConfigError(f"max_length={wanted} is not between 1 and the {limit} tokens this model takes")
    return wanted


def context_length(model: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """The number of tokens a model takes; a number beyond all texts if neither it nor its tokenizer says, as of models
    without positions."""
    config = model.config.get_text_config()
    named = [getattr(config, name, None) for name in CONTEXTS]
    return int(min([tokenizer.model_max_length, *(count for count in named if isinstance(count, int) and count > 0)]))


def required_name(arguments: ModelArguments) -> str:
    """The model's name; ConfigError if none was given."""
    if not arguments.model_name_or_path:
        raise ConfigError("model_name_or_path is missing; give --model_name_or_path MODEL")
    return arguments.model_name_or_path


def _find_heads(model: PreTrainedModel, absent: set[str], name: str) -> tuple[str, ...]:
    """The modules above the pretrained body, and those of the body that have no pretrained weights (a pooler)."""
    body = model.base_model_prefix
    heads = [child for child, module in model.named_children() if child != body and list(module.parameters())]
    parts = {key.rpartition(".")[0] for key in absent if key.split(".")[0] not in heads}
    if parts and len([key for key in absent if key.startswith(f"{body}.")]) > len(list(model.parameters())) // 2:
        raise CheckpointError(f"the weights of {name} are not those of a {type(model).__name__}; use another model")
    return (*sorted(parts), *heads)


@contextmanager
def explained(name: str, setting: str | None = None) -> Iterator[None]:
    """Turn what transformers raises for a model it can't load into one sentence.

    Args:
        name: hub id or folder of the model.
        setting: that gives another, if there is one.
    """
    try:
        with offline_if_unreachable(name):
            yield
    except SafetensorError as error:
        raise CheckpointError(f"the weights of {name} are damaged ({error}); download them again") from error
    except (OSError, ValueError, ImportError) as error:
        check_libraries(error)
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if unfit := re.search(r"for this kind of AutoModel: (\w+)", reason):
            raise ConfigError(
                f"{name} is not a model that {unfit[1]} of transformers can load, which "
                "this task needs; use one of those, or another task (encoder-decoder models, "
                "such as T5, cannot be trained here)"
            ) from error
        if is_path(name) and not Path(name).exists():
            reason = "there is no such folder"
        elif "couldn't connect" in reason and not Path(name).exists():
            reason = f"there is no folder {name} in {Path.cwd()}, and the hub does not answer"
        how = f" with --{setting}" if setting else ""
        hint = find_near(name) or f"give a local directory, or a hub id while there is a connection,{how}".rstrip(",")
        raise ConfigError(f"{name} can't be loaded ({reason}); {hint}") from error


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, trained or not, of a model; of a quantised one, those it stands for."""
    states = (getattr(parameter, "quant_state", None) or parameter for parameter in model.parameters())
    return sum(math.prod(state.shape) for state in states)

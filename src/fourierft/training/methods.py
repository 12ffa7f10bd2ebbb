"""What is trained of a model: an adapter of PEFT, its head, its biases, or all of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from fourierft.errors import ConfigError, FourierFTError
from fourierft.format.checkpoint import find_checkpoint
from fourierft.training.arguments import MethodArguments
from fourierft.training.method_parser import parse_method
from fourierft.training.models import BaseModel, count_parameters
from fourierft.training.starting import expected_warnings, load_adapter
from fourierft.tuner.recommended import ALL_LAYERS, choose_counts
from fourierft.tuner.registration import enable

BOOKKEEPING = ("peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision", "peft_version")


@dataclass(frozen=True)
class Trainable:
    """A model of which some parameters are trained.

    Attributes:
        method: head, bitfit, full, or the lower-case PEFT type of the adapter.
        is_adapter: whether `model` is a `peft.PeftModel`.
        layers: number of layers with an adapter.
        settings: what tells one adapter of the method from another, such as n_frequency.
        adapter_parameters, head_parameters: trained numbers, below and in the head.
        adapter_bytes, head_bytes: what they weigh on disk.
        base_parameters: all numbers of the model without the adapter.
    """

    model: nn.Module
    method: str
    is_adapter: bool
    layers: int
    settings: dict[str, Any]
    adapter_parameters: int
    head_parameters: int
    adapter_bytes: int
    head_bytes: int
    base_parameters: int

    @property
    def is_part(self) -> bool:
        """Whether some parameters of the model itself are trained, as of head and bitfit, and none else saved."""
        return not self.is_adapter and self.method != "full"

    def sizes(self) -> dict[str, dict[str, int]]:
        """Trained numbers and their bytes, as metrics.json has them."""
        return {
            "parameters": {
                "adapter": self.adapter_parameters,
                "head": self.head_parameters,
                "base": self.base_parameters,
            },
            "bytes": {"adapter": self.adapter_bytes, "head": self.head_bytes},
        }


def attach(base: BaseModel, arguments: MethodArguments, steps: int | None = None) -> Trainable:
    """Make the parameters of `arguments.method` the ones that are trained. The model of `base` is changed.

    Args:
        steps: of the optimizer, for methods with a schedule of their own.

    Raises: ConfigError, if the method, its settings or its layers are unknown, or it trains nothing of this model.
        ShapeError, if n_frequency is too large.
    """
    base_parameters = count_parameters(base.model)
    method = arguments.method
    check_method(method)
    if base.adapter is not None:
        return _go_on(base, base.adapter, arguments, base_parameters)
    if method in ("full", "head", "bitfit") and base.is_quantized:
        raise ConfigError(f"method={method} trains weights of the model, which is quantised; use an adapter")
    if method == "full":
        return _describe(base.model, method, base.heads, {}, base_parameters)
    if method in ("head", "bitfit"):
        _freeze(base.model, base.heads, keep_biases=method == "bitfit")
        if not any(parameter.requires_grad for parameter in base.model.parameters()):
            missing = "head of its own" if method == "head" else "bias"
            raise ConfigError(f"method={method} trains nothing: this model has no {missing}; use another method")
        return _describe(base.model, method, base.heads, {}, base_parameters)
    if arguments.target_modules and arguments.target_modules != [ALL_LAYERS]:
        _check_targets(base.model, arguments.target_modules)
    config = adapter_config(arguments, base.model, steps, heads=base.heads)
    if isinstance(config.target_modules, (list, set)):
        _check_targets(base.model, config.target_modules)
    everywhere = {"target_modules": ALL_LAYERS} if config.target_modules == ALL_LAYERS else {}  # PEFT will list them
    model = _wrap(base, config)
    settings = {**adapter_settings(config), **everywhere}
    return _describe(model, config.peft_type.value.lower(), base.heads, settings, base_parameters)


def _go_on(base: BaseModel, folder: str, arguments: MethodArguments, base_parameters: int) -> Trainable:
    """The adapter of a folder, to be trained further.

    Raises: ConfigError, if a setting is for a new one. CheckpointError or ShapeError, if it is not whole or not of this
        model.
    """
    default = MethodArguments()
    names = [item.name for item in fields(default) if item.name != "head_learning_rate"]
    changed = [name for name in names if getattr(arguments, name) != getattr(default, name)]
    if changed:
        raise ConfigError(
            f"{changed[0]}={getattr(arguments, changed[0])} is for a new adapter, but adapter_name_or_path={folder} "
            "continues one with its own settings; leave out one of them"
        )
    with expected_warnings():
        model: Any = load_adapter(base.model, find_checkpoint(folder), is_trainable=True)
    config = model.peft_config["default"]
    return _describe(model, config.peft_type.value.lower(), base.heads, adapter_settings(config), base_parameters)


def check_method(method: str) -> None:
    """Raise ConfigError, naming the nearest known one, if a method is unknown."""
    parse_method(method)


def adapter_config(
    arguments: MethodArguments,
    model: nn.Module,
    steps: int | None = None,
    layers: Any = ALL_LAYERS,
    heads: Sequence[str] = (),
) -> Any:
    """The PEFT config of a method that is an adapter.

    Args:
        model: the base, whose layers a budget is spread over.
        steps: of the optimizer, for methods with a schedule of their own.
        layers: that FourierFT and LoRA adapt where neither the method nor the arguments name any.
        heads: of the model, which are trained whole and take no part in a budget.

    Raises: ConfigError, if its settings are wrong.
    """
    enable()
    count = {} if arguments.n_frequency is None else {"n_frequency": arguments.n_frequency}
    usual = {
        "fourierft": {
            **count,
            "scaling": _parse_scaling(arguments.scaling),
            "random_loc_seed": arguments.random_loc_seed,
            "init_weights": arguments.init_weights,
        },
        "lora": {"r": arguments.lora_r, "lora_alpha": arguments.lora_alpha, "lora_dropout": arguments.lora_dropout},
    }
    method = parse_method(arguments.method, arguments.target_modules, usual=usual)
    content = {name: value for name, value in (method.config or {}).items() if value is not None}
    if method.family in ("fourierft", "lora"):
        content.setdefault("target_modules", layers)
        if arguments.target_parameters:
            content.setdefault("target_parameters", arguments.target_parameters)
    elif arguments.target_parameters:
        raise ConfigError(f"method {arguments.method} adapts no parameters; leave --target_parameters out")
    if content.get("peft_type") == "ADALORA" and steps is not None:
        content.setdefault("total_step", steps)
    return _make_config({**content, **_spread(arguments, content, model, heads)}, arguments.method)


def _spread(
    arguments: MethodArguments, content: dict[str, Any], model: nn.Module, heads: Sequence[str]
) -> dict[str, Any]:
    """The sizes of a FourierFT adapter whose method names none: those of a budget, or the usual ones."""
    is_sized = arguments.method.partition(",")[0] != "fourierft" or "n_frequency=" in arguments.method
    given = [name for name in ("like", "parameters") if getattr(arguments, name) is not None]
    if given and is_sized:
        raise ConfigError(
            f"{given[0]}={getattr(arguments, given[0])} sets the size of a FourierFT adapter, but "
            f"method={arguments.method} has its own; use method=fourierft, or leave it out"
        )
    if is_sized:
        return {}
    fields: dict[str, Any] = {
        name: value for name, value in content.items() if name in ("target_modules", "exclude_modules")
    }
    fields["modules_to_save"] = list(heads) or None
    return choose_counts(model, fields, arguments.like, arguments.parameters, arguments.n_frequency)


def _make_config(content: dict[str, Any], method: str) -> Any:
    try:
        config = peft.PeftConfig.from_peft_type(**content)
    except FourierFTError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"method {method} is not a PEFT adapter ({reason}); check its name and settings") from error
    if not hasattr(config, "target_modules"):
        raise ConfigError(f"method {method} is of type {content.get('peft_type')}, which adapts no layers; use another")
    config.inference_mode, config.base_model_name_or_path = False, None
    return config


def _parse_scaling(scaling: str | float) -> Any:
    if scaling == "auto":
        return scaling
    try:
        return float(scaling)
    except ValueError as error:
        raise ConfigError(f"scaling={scaling} is neither a number nor auto; use auto if in doubt") from error


def _check_targets(model: PreTrainedModel, targets: Iterable[str]) -> None:
    names = [name for name, _ in model.named_modules() if name]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            if any(f".{name}".endswith(f".{target}") for name, _ in model.named_parameters()):
                raise ConfigError(
                    f"target module {target} is a parameter of the model; name it with --target_parameters instead"
                )
            layers = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
            near = difflib.get_close_matches(target, layers, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"its layers are {', '.join(layers)}"
            raise ConfigError(f"target module {target} is not in the model; {hint}")


def _is_linear(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim == 2


def _wrap(base: BaseModel, config: Any) -> peft.PeftModel:
    known = {"classifier", "score"} if base.task_type == peft.TaskType.SEQ_CLS else set()  # PEFT adds these itself
    wrapper = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(str(base.task_type and base.task_type.value), peft.PeftModel)
    config.task_type, config.revision = base.task_type, base.revision
    config.modules_to_save = [name for name in base.heads if name not in known] or None
    try:
        with expected_warnings():
            return wrapper(base.model, config)
    except FourierFTError:
        raise
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the settings of the adapter do not fit this model: {reason}") from error


def adapter_settings(config: Any) -> dict[str, Any]:
    """What tells an adapter from others of its method: n_frequency and its like, and whatever is not PEFT's default."""
    names = ("n_frequency", "scaling", "random_loc_seed", "r", "lora_alpha")
    settings = {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}
    for item in fields(config):
        value = getattr(config, item.name, None)
        if (
            item.init
            and item.name not in BOOKKEEPING
            and value != item.default
            and isinstance(value, (int, float, str))
        ):
            settings.setdefault(item.name, value)
    targets = config.target_modules
    if getattr(config, "target_parameters", None):
        settings["target_parameters"] = list(config.target_parameters)
    return {**settings, "target_modules": targets if isinstance(targets, str) else sorted(targets)}


def _freeze(model: PreTrainedModel, heads: tuple[str, ...], keep_biases: bool) -> None:
    """Train the head, and the biases if they are kept; frozen parameters are left out when the model is saved."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_in(name, heads) or (keep_biases and name.endswith("bias")))
    model._keys_to_ignore_on_save = {name for name, p in model.named_parameters() if not p.requires_grad}


def _is_in(name: str, heads: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{head}.") for head in heads)


def is_head_parameter(name: str, heads: tuple[str, ...]) -> bool:
    """Whether a parameter of a model, wrapped by PEFT or not, belongs to its head."""
    return ".modules_to_save." in name or _is_in(name, heads)


def _describe(
    model: nn.Module, method: str, heads: tuple[str, ...], settings: dict[str, Any], base_parameters: int
) -> Trainable:
    trained = [(is_head_parameter(name, heads), p) for name, p in model.named_parameters() if p.requires_grad]
    counts = {head: sum(p.numel() for is_head, p in trained if is_head == head) for head in (True, False)}
    sizes = {head: sum(p.nbytes for is_head, p in trained if is_head == head) for head in (True, False)}
    return Trainable(
        model=model,
        method=method,
        is_adapter=isinstance(model, peft.PeftModel),
        layers=sum(isinstance(module, BaseTunerLayer) for module in model.modules()),
        settings=settings,
        adapter_parameters=counts[False],
        head_parameters=counts[True],
        adapter_bytes=sizes[False],
        head_bytes=sizes[True],
        base_parameters=base_parameters,
    )

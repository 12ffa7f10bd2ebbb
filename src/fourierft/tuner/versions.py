"""What differs between the releases of PEFT that this package runs on; all else is written for the newest.

- Before 0.21 PEFT does not ask a tuner what its files are to hold, nor what becomes of it in a model: two functions do
  that for every method. While this package is enabled they ask its tuner, as PEFT 0.21 does.
- Before 0.21 it forgets the biases that a FourierFT adapter trains.
- Before 0.21 it has no error of its own where no module is targeted, and for a further adapter no error at all.
- Before 0.20 it dequantises no weights for a tuner, and in 0.20 none of newer releases of torchao: adapters of such a
  base are trained and run, but not merged.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import save_and_load
from torch import Tensor, nn

from fourierft.errors import ConfigError, FourierFTError
from fourierft.extras import release

PEFT = release("peft")


class OlderTuner(BaseTuner):
    """What PEFT 0.21 has in `BaseTuner`, for the releases before."""

    tuner_layer_cls: type
    targeted_module_names: list[str]
    targeted_parameter_names: list[str]

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add an adapter to the model.

        Raises: NoMatchingPeftModuleError, if no module of the model is targeted.
        """
        modules, parameters = self.targeted_module_names, self.targeted_parameter_names
        self.targeted_module_names, self.targeted_parameter_names = [], []  # PEFT looks whether they are empty
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
        except ValueError as error:
            if self.targeted_module_names or self.targeted_parameter_names or isinstance(error, FourierFTError):
                raise
            raise NoMatchingPeftModuleError(*error.args) from error
        finally:
            self.targeted_module_names = modules + self.targeted_module_names
            self.targeted_parameter_names = parameters + self.targeted_parameter_names

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: Any,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        """The part of a state dict that is an adapter's, still with the adapter's name in its keys."""
        biases = set(_biases(model, config, cls.tuner_layer_cls, state_dict))
        return {key: value for key, value in state_dict.items() if f".{cls.prefix}" in key or key in biases}

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What PEFT makes the state dict of a model from: the adapter's name is left out, which it puts in itself."""
        end = f".{adapter_name}.weight"
        return {
            f"{key.removesuffix(end)}.weight" if f".{cls.prefix}" in key and key.endswith(end) else key: value
            for key, value in state_dict.items()
        }


def _biases(model: nn.Module, config: Any, layer_class: type, state_dict: Mapping[str, Tensor]) -> Iterator[str]:
    """The biases of a state dict that an adapter trains."""
    if config.bias == "all":
        yield from (key for key in state_dict if key.rpartition(".")[2] == "bias")
    elif config.bias != "none":
        for name, module in model.named_modules():
            if isinstance(module, layer_class):
                yield f"{name}.base_layer.bias".removeprefix("_fsdp_wrapped_module.")


def _get_state_dict(stock: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """`peft.get_peft_model_state_dict`, which asks the tuner."""

    @wraps(stock)
    def get(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
        call = inspect.signature(stock).bind(*args, **kwargs)
        call.apply_defaults()
        model, name = call.arguments["model"], call.arguments["adapter_name"]
        if call.arguments["unwrap_compiled"]:
            model = getattr(model, "_orig_mod", model)
        config = model.peft_config[name]
        tuner = _tuner(config)
        if tuner is None:
            return stock(*args, **kwargs)
        whole = call.arguments["state_dict"]
        others = [other for other in model.peft_config if other != name]
        own = {
            key: value
            for key, value in (model.state_dict() if whole is None else whole).items()
            if not any(f".{other}." in key or key.endswith(f".{other}") for other in others)
        }
        selected = tuner._get_adapter_state_dict(model, config, name, own, others)
        call.arguments |= {"model": model, "state_dict": own}
        biases = {key: value for key, value in selected.items() if tuner.prefix not in key}
        return biases | stock(*call.args, **call.kwargs)

    return get


def _set_state_dict(stock: Callable[..., Any]) -> Callable[..., Any]:
    """`peft.set_peft_model_state_dict`, which asks the tuner."""

    @wraps(stock)
    def put(*args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(stock).bind(*args, **kwargs)
        call.apply_defaults()
        model, name = call.arguments["model"], call.arguments["adapter_name"]
        config = model.peft_config[name]
        tuner = _tuner(config)
        if tuner is not None:
            state_dict = dict(call.arguments["peft_model_state_dict"])
            call.arguments["peft_model_state_dict"] = tuner._remap_adapter_state_dict_for_load(
                model, config, name, state_dict
            )
        return stock(*call.args, **call.kwargs)

    return put


def _tuner(config: Any) -> type[OlderTuner] | None:
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type)
    return tuner if tuner is not None and issubclass(tuner, OlderTuner) else None


class OlderLayer(BaseTunerLayer):
    """What PEFT 0.20 has in `BaseTunerLayer`, for the releases before."""

    fourierft_coefficients: Any
    quantization_backend: Any = None

    def get_base_weight(self) -> Tensor:
        """The weight of the base layer.

        Raises: ConfigError, if it is quantised.
        """
        base: Any = self.get_base_layer()
        return (
            base.weight.data if self.quantization_backend is None else self.quantization_backend.get_base_weight(base)
        )

    def set_base_weight(self, weight_data: Tensor) -> None:
        """Set the weight of the base layer."""
        self.get_base_layer().weight.data = weight_data

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        weight: Any = getattr(self.get_base_layer(), "weight", None)
        if isinstance(weight, Tensor) and weight.is_floating_point() and weight.itemsize == 1:
            # PEFT 0.18 would round the coefficients to the 8 bits of the base
            self.fourierft_coefficients[adapter_name].to(device or weight.device)
            return
        super()._move_adapter_to_device_of_base_layer(adapter_name, device)


class NoBackend:
    """What stands for a weight that PEFT would dequantise if it was newer."""

    supports_merge = True  # so that it is asked

    def __init__(self, weight: Tensor) -> None:
        self.backend_name = type(weight).__name__

    def get_base_weight(self, base_layer: nn.Module) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(
            f"PEFT {importlib.metadata.version('peft')} cannot dequantise the {self.backend_name} of this model, which "
            "merging needs; install peft>=0.21, or load the base model without quantisation to merge"
        )


def _find_backend(base_layer: nn.Module, **settings: Any) -> Any:
    """What `resolve_quantization_backend` of PEFT 0.21 finds, or `NoBackend`."""
    if PEFT >= (0, 20):
        with suppress(ImportError):  # of what newer releases of torchao have no more
            backend = quantization_utils.resolve_quantization_backend(base_layer, **settings)
            if backend is not None:
                return backend
    weight: Any = getattr(base_layer, "weight", None)
    is_quantized = type(weight).__module__.partition(".")[0] in ("bitsandbytes", "torchao")
    return NoBackend(weight) if is_quantized else None


if TYPE_CHECKING or PEFT >= (0, 21):
    from peft.utils.error import NoMatchingPeftModuleError as NoMatchingPeftModuleError

    Tuner = BaseTuner
else:

    class NoMatchingPeftModuleError(ValueError):
        """No module of a model is targeted."""

    Tuner = OlderTuner

if TYPE_CHECKING or PEFT >= (0, 20):
    from peft.utils import get_quantization_kwargs as get_quantization_kwargs
    from peft.utils import quantization_utils

    TunerLayer = BaseTunerLayer
else:

    def get_quantization_kwargs(model: nn.Module) -> dict[str, Any]:
        """What dequantising takes: nothing, since there is none."""
        return {}

    TunerLayer = OlderLayer

resolve_quantization_backend = quantization_utils.resolve_quantization_backend if Tuner is BaseTuner else _find_backend

_ASKING: list[tuple[Callable[..., Any], Callable[..., Any]]] = [  # what PEFT has, and what asks the tuner
    (save_and_load.get_peft_model_state_dict, _get_state_dict(save_and_load.get_peft_model_state_dict)),
    (save_and_load.set_peft_model_state_dict, _set_state_dict(save_and_load.set_peft_model_state_dict)),
]


def ask_tuner() -> None:
    """Have PEFT ask the tuner of an adapter, if it does not yet, when it saves or loads one."""
    if Tuner is not BaseTuner:
        for stock, asking in _ASKING:
            _replace(stock, asking)


def stop_asking() -> None:
    """Undo `ask_tuner`."""
    for stock, asking in _ASKING:
        _replace(asking, stock)


def _replace(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Put a function in the place of another one in all modules that have it by its name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(old.__name__) is old:
            setattr(module, old.__name__, new)

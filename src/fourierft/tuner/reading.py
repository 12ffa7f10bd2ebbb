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
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

_CALLS = (nn.Module._call_impl.__code__, nn.Module._wrapped_call_impl.__code__)
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
        read: by its weight alone, in another module's call and before any of its own, without being known to be read.
    """

    called = read = False


def is_in_call() -> bool:
    """Whether this runs inside of a module's call: who reads a weight elsewhere, as to print it, computes nothing."""
    frame = None if torch.compiler.is_compiling() else sys._getframe(1)
    while frame is not None and frame.f_code not in _CALLS:
        frame = frame.f_back
    return frame is not None or torch.compiler.is_compiling()


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

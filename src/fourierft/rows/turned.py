"""Models that may hand tokens on before rows: [tokens, rows, features] in place of [rows, tokens, features].

XLNet and FSMT do, and so do torch's attention and recurrent layers unless `batch_first` is true. Where a batch has as
many tokens as rows, the two cannot be told apart by their shapes.
"""

from __future__ import annotations

import functools
import inspect
import re
import weakref

from torch import nn

_TURNS = re.compile(r"\.(transpose|swapaxes|permute)\(\s*(0\s*,\s*1\s*\)|1\s*,\s*0\b)")
_known: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def may_turn(model: nn.Module) -> bool:
    """Whether a part of a model says so, or its source, as far as it is here, exchanges the first two dimensions."""
    if model not in _known:
        parts = {type(part): part for part in model.modules()}
        says = any(getattr(part, "batch_first", None) is False for part in model.modules())
        _known[model] = says or any(_is_turning(base) for kind in parts for base in kind.__mro__)
    return _known[model]


@functools.lru_cache(maxsize=4096)
def _is_turning(kind: type) -> bool:
    if "forward" not in vars(kind) or kind.__module__.partition(".")[0] in ("torch", "peft", "fourierft"):
        return False
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return False
    return _TURNS.search(re.sub(r"#.*", "", source)) is not None

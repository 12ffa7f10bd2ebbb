"""The bar that shows how far something is: one kind for all commands, on terminals alone, gone in the end."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_OPEN: weakref.WeakSet[tqdm[Any]] = weakref.WeakSet()


def bar(over: Iterable[T] | None, doing: str, unit: str, draws: bool = True, **options: Any) -> tqdm[T]:
    """A bar of tqdm, over the rows of a loop or moved by its `update`.

    It is drawn if standard error is a terminal, as wide as that is, by the first process of a training on several
    devices, unless TQDM_DISABLE is set.

    Args:
        over: what is gone through; None if `update` moves the bar.
        doing: what is being done, as `adding`.
        unit: what is counted, as `adapters`.
        draws: whether it is drawn at all.
        options: further ones of tqdm, such as `total` and `delay`.
    """
    drawn = draws and os.environ.get("RANK", "0") == "0" and os.environ.get("TQDM_DISABLE", "0").lower() in _OFF
    made: tqdm[T] = tqdm(
        over,
        desc=doing,
        unit=f" {unit}",
        disable=None if drawn else True,  # None: unless standard error is a terminal
        leave=False,
        dynamic_ncols=True,
        **options,
    )
    _OPEN.add(made)
    return made


_OFF = ("", "0", "false")  # values of TQDM_DISABLE that disable nothing


def close_all() -> None:
    """Take the bars that are open off the terminal, so that what is written next has a line of its own."""
    for one in list(_OPEN):
        one.close()

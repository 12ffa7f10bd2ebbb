"""Put this package's tuner behind `PeftType.FOURIERFT`, and put stock PEFT's back.

PEFT finds a method's config and tuner in two tables, keyed by a closed enum. It looks them up at every call, so
changing the tables is all it takes in PEFT 0.21; versions.py has what it takes before. Classes imported from peft by
name (`peft.FourierFTConfig`) stay stock's; a config of either class runs on the tuner that stands in the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from fourierft.extras import check_hosts
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.first_step import check_step
from fourierft.tuner.model import FourierFTModel
from fourierft.tuner.versions import ask_tuner, stop_asking

_OURS: tuple[tuple[dict[PeftType, Any], type], ...] = (
    (PEFT_TYPE_TO_CONFIG_MAPPING, FourierFTConfig),
    (PEFT_TYPE_TO_TUNER_MAPPING, FourierFTModel),
)
_replaced: list[type] = []  # what stood in the tables, in their order; empty while disabled
_hooks: list[RemovableHandle] = []  # of optimisers' steps, for the warning of first_step.py


def enable() -> None:
    """Let PEFT make, load and save FourierFT adapters with this package. Calling it again changes nothing.

    Raises: ConfigError, if this package does not support the installed release of PEFT or transformers.
    """
    check_hosts()
    if _replaced:
        return
    for table, own_class in _OURS:
        _replaced.append(table[PeftType.FOURIERFT])
        table[PeftType.FOURIERFT] = own_class
    ask_tuner()
    _hooks.append(register_optimizer_step_pre_hook(check_step))


def disable() -> None:
    """Undo `enable`. Models that were made in between keep running, but save them while enabled."""
    for (table, _), stock_class in zip(_OURS, _replaced, strict=False):
        table[PeftType.FOURIERFT] = stock_class
    _replaced.clear()
    stop_asking()
    while _hooks:
        _hooks.pop().remove()


@contextmanager
def substituted(config_class: type[FourierFTConfig], model_class: type[FourierFTModel]) -> Iterator[None]:
    """While this lasts PEFT makes FourierFT adapters with these classes: for comparing another form of the adapter."""
    enable()
    before = [table[PeftType.FOURIERFT] for table, _ in _OURS]
    for (table, _), other_class in zip(_OURS, (config_class, model_class), strict=True):
        table[PeftType.FOURIERFT] = other_class
    try:
        yield
    finally:
        for (table, _), own_class in zip(_OURS, before, strict=True):
            table[PeftType.FOURIERFT] = own_class

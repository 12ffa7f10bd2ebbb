"""Modules that adapters replace with trained copies of their own (`modules_to_save`), such as a classifier."""

from __future__ import annotations

from collections.abc import Sequence

from peft.utils import ModulesToSaveWrapper
from torch import nn

from fourierft.errors import ConfigError


def choose_saved(model: nn.Module, names: Sequence[str]) -> None:
    """Let each such module be that of the adapters named: a copy that one of them has, or that of the base.

    PEFT merges the adapters named, and leaves the model the copies of those that are active.

    Raises: ConfigError, before anything is changed, if two of them have a copy of one module.
    """
    chosen = []
    for path, wrapper in model.named_modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            own = [name for name in names if name in wrapper.modules_to_save]
            if len(own) > 1:
                raise ConfigError(
                    f"the adapters {own} each have a {path} of their own, and a merged model has only one; merge one "
                    "of them, or give the others no modules_to_save"
                )
            chosen.append((path, wrapper, own))
    for path, wrapper, own in chosen:
        if own:
            wrapper.set_adapter(own[0])
        else:
            setattr(model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], wrapper.original_module)

"""The switch `FOURIERFT_ENABLE=1`: a program without a line of ours has this tuner as soon as it has imported PEFT.

Python reads `fourierft.pth` beside the installed package when it starts. Without the variable that line looks into the
environment and does no more. With it, a finder waits for PEFT and calls `fourierft.enable` behind its import: a program
that never imports PEFT loads neither PEFT nor torch. Processes that a program starts inherit the variable.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from fourierft.errors import ConfigError

if TYPE_CHECKING:  # every process that inherits the variable pays for what is imported here
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "FOURIERFT_ENABLE"
ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class PeftFinder:
    """Finds PEFT as Python does, and has `enable` called behind its import. Looking for it alone does nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The place of PEFT, from the finders behind this one; None for any other module."""
        if fullname != "peft":
            return None
        behind = (finder for finder in sys.meta_path if not isinstance(finder, PeftFinder))
        found = (finder.find_spec(fullname, path, target) for finder in behind)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            _enable_behind(spec.loader)
        return spec


def _enable_behind(loader: Any) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        if is_on():
            from fourierft import enable

            enable()

    loader.exec_module = exec_module


def is_on() -> bool:
    """Whether the variable says so.

    Raises: ConfigError, if it says neither yes nor no.
    """
    said = os.environ.get(VARIABLE, "0").strip()
    if said.lower() not in (*ON, *OFF):
        raise ConfigError(f"{VARIABLE}={said!r} is neither on nor off; set {VARIABLE}=1, or unset it")
    return said.lower() in ON


def install() -> None:
    """Wait for PEFT. Calling it again changes nothing."""
    if not any(isinstance(finder, PeftFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PeftFinder())

"""The files for other trainers say what they are for where the trainer is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

from fourierft.errors import MissingExtraError


@pytest.mark.filterwarnings("ignore")  # of what PEFT imports, in the environments of others
@pytest.mark.parametrize("tool", ["swift", "axolotl"])
def test_a_door_without_its_trainer_says_so(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    monkeypatch.delitem(sys.modules, f"fourierft.integrations.{tool}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"fourierft\.integrations\.{tool} is for .*{tool}.*; pip install"):
        importlib.import_module(f"fourierft.integrations.{tool}")

"""A pytest plugin: runs PEFT's own tests with this package's tuner behind `PeftType.FOURIERFT`."""

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

import fourierft.tuner

if importlib.util.find_spec("diffusers") is None:
    # PEFT's tests import one class of diffusers for cases that are not run here.
    absent: Any = types.ModuleType("diffusers")
    absent.__spec__ = ModuleSpec("diffusers", None)
    absent.StableDiffusionPipeline = None
    sys.modules["diffusers"] = absent

fourierft.tuner.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say which tuner ran."""
    tuner = PEFT_TYPE_TO_TUNER_MAPPING[PeftType.FOURIERFT]
    print(f"\ntuner behind FOURIERFT: {tuner.__module__}.{tuner.__qualname__}")

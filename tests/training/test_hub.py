"""Questions to the hub: sizes from its listing, its refusals in one sentence, and no retries when it is silent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

from fourierft.errors import ConfigError, DataError
from fourierft.training import hub


def list_files(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
    files = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: SimpleNamespace(siblings=files))


def test_size_is_that_of_one_kind_of_weights_and_the_small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model.safetensors": 400, "pytorch_model.bin": 410, "tf_model.h5": 420, "config.json": 3, "onnx/a.bin": 9}
    list_files(monkeypatch, **files)
    assert hub.find_model_size("some/model", "main") == 403
    list_files(monkeypatch, **{"pytorch_model.bin": 410, "config.json": 3, "README.md": 7})
    assert hub.find_model_size("some/model", "main") == 413


def test_size_is_not_known_offline() -> None:
    assert hub.find_model_size("some/model", "main") is None


def test_a_model_the_hub_does_not_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(ConfigError, match="the hub has no model some/model"):
        hub.find_model_size("some/model", "main")


def test_a_data_set_is_found_by_its_directory_and_unknown_offline(reviews: Path) -> None:
    builder = hub.find_data_set(str(reviews.parent), None)
    assert builder is not None
    assert hub.find_data_set("some/data", None) is None
    with pytest.raises(DataError, match=r"data set .* can't be read: BuilderConfig 'other' not found"):
        hub.find_data_set(str(reviews.parent), "other")


def test_weights_are_here_in_a_directory_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.has_weights(str(tmp_path), "main")
    assert not hub.has_weights("some/model", "main")
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert not hub.has_weights("some/model", "abc")
    (snapshot / "model.safetensors.index.json").touch()
    assert hub.has_weights("some/model", "abc")


def test_a_hub_that_does_not_answer_is_asked_once_and_not_for_what_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    asked: list[str] = []

    def fail(url: str, **_: Any) -> Any:
        asked.append(url)
        raise HTTPError("no network")

    constants: Any = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=fail))
    with hub.offline_if_unreachable(str(tmp_path), None):
        assert not constants.HF_HUB_OFFLINE
    assert asked == []
    with hub.offline_if_unreachable(str(tmp_path), "some/model"):
        assert constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
        assert hub.find_model_size("some/model", "main") is None
    assert asked == [constants.ENDPOINT]
    assert not constants.HF_HUB_OFFLINE

"""Questions to the hub: sizes from its listing, and its refusals in one sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import RepositoryNotFoundError

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


@pytest.mark.parametrize(
    ("name", "text"),
    [("models/bart", "neither"), ("./models/bart", "there is no folder .*models/bart; did you mean .*models/bert")],
)
def test_a_path_that_is_not_there_is_told_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    (tmp_path / "models" / "bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if name.startswith("."):
        with pytest.raises(ConfigError, match=text):
            hub.has_weights(name, "main")
    else:  # an id that the hub may have
        assert not hub.has_weights(name, "main")


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model\n", {"license": "apache-2.0"}),
        (
            "---\nlicense: other\nlicense_name: house\nlicense_link: LICENSE\n---\n",
            {"license": "other", "license_name": "house", "license_link": "LICENSE"},
        ),
        ("---\nlicense:\n- mit\n- other\n---\n", {}),
        ("---\nlicense: [\n---\n", {}),
        ("no metadata", {}),
        (None, {}),
    ],
)
def test_the_license_of_a_folder_is_that_of_its_card(tmp_path: Path, card: str | None, found: dict[str, str]) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert hub.find_license(str(tmp_path), "main") == found


def test_the_license_of_a_model_is_asked_of_the_hub_if_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def model_info(_: object, name: str, revision: str, timeout: float) -> SimpleNamespace:
        asked.append((name, revision))
        if name == "some/gone":
            raise OSError("no route")
        return SimpleNamespace(card_data=ModelCardData(license="mit") if name == "some/model" else None)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    assert hub.find_license("some/model", "v2") == {}, "the tests are offline"
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    assert hub.find_license("some/model", "v2") == {"license": "mit"}
    assert hub.find_license("some/bare", "main") == hub.find_license("some/gone", "main") == {}
    assert asked == [("some/model", "v2"), ("some/bare", "main"), ("some/gone", "main")]

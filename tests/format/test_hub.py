"""A hub that is silent is asked once, and a path that is not there is told with the nearest."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import HTTPError

from fourierft.adapters.base import explained
from fourierft.errors import CheckpointError
from fourierft.format import hub


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were asked of a hub that does not answer."""
    addresses: list[str] = []

    def fail(url: str, **_: Any) -> Any:
        addresses.append(url)
        raise HTTPError("no network")

    constants: Any = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=fail))
    monkeypatch.setattr(hub, "_answers", {})
    return addresses


def test_a_hub_that_does_not_answer_is_asked_once_and_not_for_what_is_on_disk(tmp_path: Path, asked: list[str]) -> None:
    import datasets

    constants: Any = huggingface_hub.constants
    with hub.offline_if_unreachable(str(tmp_path), None):
        assert not constants.HF_HUB_OFFLINE
    assert asked == []
    for _ in range(3):
        with hub.offline_if_unreachable(str(tmp_path), "some/model"):
            assert constants.HF_HUB_OFFLINE
            assert datasets.config.HF_HUB_OFFLINE
        assert not constants.HF_HUB_OFFLINE
    assert asked == [constants.ENDPOINT]


def test_a_minute_later_it_is_asked_again(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(hub.time, "monotonic", lambda: now[0])
    assert not hub.is_reachable()
    now[0] += hub.REMEMBERED - 1
    assert not hub.is_reachable()
    now[0] += 1
    assert not hub.is_reachable()
    assert len(asked) == 2


def test_a_model_that_cannot_be_loaded_is_not_tried_again_and_again(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    modes = []

    @explained(str(tmp_path / "brt"))
    def load() -> None:
        modes.append(huggingface_hub.constants.HF_HUB_OFFLINE)
        raise OSError("there is no such model")

    with pytest.raises(CheckpointError, match=r"cannot be loaded \(.*\); did you mean .*bert\?"):
        load()
    assert (modes, len(asked)) == ([True], 1)


def test_the_nearest_path_is_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    assert hub.find_near(str(tmp_path / "trian.csv")) == f"did you mean {tmp_path / 'train.csv'}?"
    assert hub.find_near(str(tmp_path / "train.csv")) == ""
    assert hub.find_near(str(tmp_path / "gone" / "trian.csv")) == ""


def test_an_adapter_in_a_store_is_told_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sqlite3.connect("fleet.db").execute("CREATE TABLE a (b)").connection.close()
    (tmp_path / "plain").write_text("SQLite format")
    for name, command in (
        ("fleet.db:acme/one", "fleet.db acme/one"),
        ("fleet.db:a b:c", "fleet.db 'a b:c'"),
        (f"{tmp_path}/fleet.db:x", f"{tmp_path}/fleet.db x"),
        ("postgresql://me:secret@host:5432/fleet:x", "STORE x"),
    ):
        assert f"write it to one with `fourierft store get {command} DIR`" in hub.find_near(name)
    for name, command in (("fleet.db", "fleet.db NAME"), ("postgresql://me:secret@host/fleet", "STORE NAME")):
        assert f"write it to one with `fourierft store get {command} DIR`" in hub.find_in_store(name)
    for name in ("plain:x", "plain", "gone.db:x", "C:/models", "http://host/x", "", ":", "a\0:b"):
        assert hub.find_in_store(name) == ""


@pytest.mark.parametrize(("name", "known"), [("bert", False), ("org/bert", False), ("./bert", True), ("a/b/c", True)])
def test_a_name_that_no_hub_has_is_a_path(name: str, known: bool) -> None:
    assert hub.is_path(name) == known

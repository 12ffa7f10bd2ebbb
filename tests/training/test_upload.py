"""What was trained is sent to a hub and read back: huggingface_hub's client talks to a server on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from fourierft.adapters.card import OURS, STOCK
from fourierft.errors import ConfigError, PlaceError
from fourierft.training.arguments import Arguments
from fourierft.training.evaluation import load_trained
from fourierft.training.run import train

from .hub_server import TOKEN, Hub

Build = Callable[..., Arguments]
SENT = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "curve.png", "fourierft.json", "history.json",
    "metrics.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


def test_a_training_is_sent_whole_and_alone(
    hub: Hub, build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("private")
    train(build(push_to_hub=True, hub_model_id="me/mine", hub_token=TOKEN, hub_private_repo=True,
                overwrite_output_dir=True, save_steps=3))  # fmt: skip
    assert set(hub.repositories) == {"me/mine"}
    assert hub.private == {"me/mine": True}
    sent = hub.repositories["me/mine"]
    assert set(sent) == SENT
    assert all((out / name).read_bytes() == content for name, content in sent.items())
    assert f"sent to {hub.address}/me/mine/commit/" in capsys.readouterr().out
    posted = [path for method, path in hub.asked if method == "POST" and "validate" not in path]
    assert posted == ["/api/repos/create", "/api/models/me/mine/preupload/main", "/api/models/me/mine/commit/main"]
    said = ModelCard(sent["README.md"].decode()).data.to_dict()
    assert (said["library_name"], said["pipeline_tag"]) == ("peft", "text-classification")
    assert not any(TOKEN.encode() in content for content in sent.values())


def test_the_card_loads_it_from_the_hub(
    hub: Hub, build: Build, tmp_path: Path, run_card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(build(push_to_hub=True, hub_token=TOKEN, learning_rate=1e-2))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "README.md").write_bytes(hub.repositories["me/out"]["README.md"])
    found, trained = run_card(tmp_path / "elsewhere"), load_trained(tmp_path / "out")
    assert list(found) == [STOCK, OURS]
    batch = trained.processor(["the film is good", "a book was bad"], return_tensors="pt")
    for how, names in found.items():
        with torch.no_grad():
            said = names["model"].eval()(**batch).logits
            torch.testing.assert_close(said, trained.model(**batch).logits, rtol=1e-5, atol=1e-6, msg=how)
    assert ("GET", "/me/out/resolve/main/adapter_model.safetensors") in [
        (method, path.replace("0" * 40, "main")) for method, path in hub.asked
    ]


def test_a_hub_that_refuses_is_found_before_anything_is_written(hub: Hub, build: Build, tmp_path: Path) -> None:
    with pytest.raises(
        PlaceError, match=r"me/mine of the hub can't be written to \(.*401.*log in with `hf auth login`"
    ):
        train(build(push_to_hub=True, hub_model_id="me/mine", hub_token="hf_wrong"))
    with pytest.raises(PlaceError, match="a//b of the hub can't be written to"):
        train(build(push_to_hub=True, hub_model_id="a//b", hub_token=TOKEN))
    assert not (tmp_path / "out").exists()
    assert hub.repositories == {}


def test_without_the_hub_nothing_is_trained(build: Build, tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"out of the hub can't be written to .*offline"):
        train(build(push_to_hub=True))
    assert not (tmp_path / "out").exists()


def test_what_could_not_be_sent_is_kept_and_sent_later(hub: Hub, build: Build, tmp_path: Path) -> None:
    given = {"push_to_hub": True, "hub_model_id": "me/mine", "hub_token": TOKEN, "save_steps": 6}
    hub.refuses = ("/commit/", 403)
    with pytest.raises(
        PlaceError, match=r"is complete in .*out, but could not be uploaded to me/mine .*hf upload me/mine"
    ):
        train(build(**given))
    before = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    assert hub.repositories == {"me/mine": {}}
    hub.refuses = None
    train(build(**given, resume_from_checkpoint="true"))
    assert set(hub.repositories["me/mine"]) == SENT
    assert hub.repositories["me/mine"]["adapter_model.safetensors"] == before


def test_a_finished_training_that_is_sent_gets_a_card_for_the_hub(hub: Hub, build: Build, tmp_path: Path) -> None:
    train(build(save_steps=6))
    assert 'PeftModel.from_pretrained(base, ".")' in (tmp_path / "out" / "README.md").read_text()
    train(build(save_steps=6, resume_from_checkpoint="true", push_to_hub=True, hub_token=TOKEN))
    assert b'PeftModel.from_pretrained(base, "me/out")' in hub.repositories["me/out"]["README.md"]


def test_a_dry_run_sends_nothing(hub: Hub, build: Build) -> None:
    train(build(push_to_hub=True, hub_token=TOKEN, dry_run=True))
    assert hub.asked == []


def test_what_is_not_finished_is_not_sent(build: Build) -> None:
    with pytest.raises(ConfigError, match="hub_strategy=checkpoint would upload unfinished results"):
        build(push_to_hub=True, hub_strategy="checkpoint")

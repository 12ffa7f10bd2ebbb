"""Which base a store belongs to: by content where it is here, by name where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fourierft.format.identity import BaseIdentity, identify_base


def test_folder_keeps_its_identity_when_it_moves(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "moved")
    here, there = identify_base(str(tiny_bert)), identify_base(str(tmp_path / "moved"))
    assert here.name != there.name
    assert here.is_same(there)


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"])
def test_other_weights_are_another_base(tiny_bert: Path, tmp_path: Path, name: str) -> None:
    before = identify_base(str(shutil.copytree(tiny_bert, tmp_path / "base")))
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    tensors[name].flatten()[3] *= -1
    save_file(tensors, tmp_path / "base" / "model.safetensors")
    after = identify_base(str(tmp_path / "base"))
    assert before.name == after.name
    assert not before.is_same(after)


def test_commit_of_the_hubs_cache_is_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--base" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--org--base" / "refs").mkdir()
    (tmp_path / "models--org--base" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert identify_base("org/base") == BaseIdentity("org/base", f"commit:{commit}")


def test_full_revision_is_the_digest() -> None:
    assert identify_base("org/elsewhere", "a" * 40) == BaseIdentity("org/elsewhere", f"commit:{'a' * 40}")


def test_names_decide_where_a_digest_is_missing_or_of_another_kind() -> None:
    assert BaseIdentity("a").is_same(BaseIdentity("a", "commit:1"))
    assert BaseIdentity("a", "sha256:1").is_same(BaseIdentity("a", "commit:1"))
    assert not BaseIdentity("a").is_same(BaseIdentity("b", "commit:1"))

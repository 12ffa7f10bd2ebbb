"""Files written whole or not at all, and what keeps them out of a place, told by the system itself."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from fourierft import files
from fourierft.errors import ConfigError, OutputExistsError, PlaceError
from fourierft.files import (
    as_path,
    check_file,
    check_place,
    explain,
    file_beside,
    new_rights,
    share,
    write_text,
    written_beside,
    written_to,
)

LIMIT = 1024  # bytes


@contextmanager
def small_files() -> Iterator[None]:
    """No file may become larger than LIMIT, which for who writes is what a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_arrow(path: Path) -> None:
    table = pa.table({"a": list(range(LIMIT))})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(2 * LIMIT)),
    "torch": lambda path: torch.save(torch.zeros(LIMIT), path),
    "safetensors": lambda path: save_file({"a": torch.zeros(LIMIT)}, path),
    "arrow": write_arrow,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_has_no_room_is_told_whoever_writes_it(writer: str, tmp_path: Path) -> None:
    with (
        pytest.raises(PlaceError, match=r"/out was not written: .*(larger than is allowed|cut short).*; make room"),
        written_to(tmp_path / "out"),
        small_files(),
    ):
        WRITERS[writer](tmp_path / "file")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EROFS, "the file system is read-only; name another place"),
        (errno.ENOSPC, "no space is left on the disk; make room"),
        (errno.EACCES, "permission is denied; name another place"),
    ],
)
def test_the_system_s_reason_is_told_with_the_file_s_name(number: int, reason: str) -> None:
    assert str(explain(OSError(number, "", "/data/x"))).startswith(f"/data/x: {reason}")


def test_other_errors_are_left_alone() -> None:
    assert explain(FileNotFoundError(errno.ENOENT, "")) is None
    assert explain(RuntimeError("shapes differ")) is None
    with pytest.raises(KeyError), written_to(Path("out")):
        raise KeyError("x")
    with pytest.raises(ConfigError, match="n is too large"), written_to(Path("out")):
        raise ConfigError("n is too large")


def test_a_folder_yet_to_be_made_is_looked_at_without_being_made(tmp_path: Path) -> None:
    check_place(tmp_path / "a" / "b")
    check_file(tmp_path / "a" / "b.json")
    assert not list(tmp_path.iterdir())


def test_a_place_below_a_file_a_folder_for_a_file_and_a_disk_too_small_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()
    with pytest.raises(PlaceError, match=r"rows.csv/out: a part of the path is a file"):
        check_place(tmp_path / "rows.csv" / "out")
    with pytest.raises(PlaceError, match="is a folder; name a file"):
        check_file(tmp_path)
    with pytest.raises(PlaceError, match=r"MB left, but 1,000,000,000,000\.0 MB are needed; make room"):
        check_place(tmp_path / "out", 10**18)


def test_a_file_system_that_takes_no_files_is_refused() -> None:
    with pytest.raises(PlaceError, match="cannot write into /proc/out: "):
        check_place(Path("/proc/out"))


def test_text_replaces_a_file_and_makes_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    for text in ("first, and longer\n", "zweite ü\n"):
        write_text(file, text)
        assert file.read_bytes() == text.encode()
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def test_text_that_has_no_room_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "before")
    with pytest.raises(PlaceError, match=r"a\.txt was not written"), small_files():
        write_text(file, "x" * 2 * LIMIT)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_has_the_rights_that_any_new_file_gets(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_text(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_what_is_written_beside_is_seen_when_it_is_whole_and_gone_after_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with file_beside(file) as beside:
        beside.write_text("half")
        assert (beside.parent, beside.suffix, file.exists()) == (tmp_path, ".png", False)
    assert file.read_text() == "half"
    with pytest.raises(TypeError), file_beside(file) as beside:
        beside.write_text("other") + "text"
    assert file.read_text() == "half"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_of_one_file_do_not_meet_and_a_link_can_be_renamed_too(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 240)  # with what a name beside it adds, too long for a name
    with file_beside(file) as first, file_beside(file) as second:
        assert first != second
        first.write_text("first")
        second.symlink_to(tmp_path)
    assert file.read_text() == "first"
    with file_beside(file) as third:
        third.symlink_to(tmp_path)
    assert os.readlink(file) == str(tmp_path)


@pytest.mark.parametrize("given", [None, 3, "", b"runs/a"])
def test_what_is_no_path_is_told_in_one_sentence(given: object) -> None:
    message = f"^output is {re.escape(repr(given))}, which is not a path; give a text or a Path$"
    with pytest.raises(ConfigError, match=message):
        as_path(given, "output")


def test_a_path_may_be_text_or_a_path() -> None:
    assert as_path("runs/a", "output") == as_path(Path("runs/a"), "output") == Path("runs/a")


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_get_the_rights_of_any_new_file(mask: int, expected: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "below").mkdir()
        for name in ("a.safetensors", "below/b.safetensors"):
            save_file({"x": torch.ones(2)}, tmp_path / name)
        (tmp_path / "below/kept.safetensors").touch(0o444)
        share(tmp_path / "below")
        with file_beside(tmp_path / "c.safetensors") as beside:
            save_file({"x": torch.ones(2)}, beside)
        share(tmp_path / "a.safetensors")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*.safetensors")}
    assert found.pop("kept.safetensors") == {0o022: 0o444, 0o027: 0o440, 0o077: 0o600}[mask]
    assert found == dict.fromkeys(("a.safetensors", "b.safetensors", "c.safetensors"), expected)


@pytest.mark.parametrize("system", ["linux", "other"])
def test_threads_that_ask_for_the_rights_of_a_new_file_leave_them_as_they_are(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread asks while one has the mask set, where it has to be set to be read."""
    mask, umask = 0o027, os.umask
    found: list[int] = []
    others: list[threading.Thread] = []

    def ask() -> None:
        found.append(new_rights())

    def interrupted(value: int) -> int:
        before = umask(value)
        if not others:
            others.append(threading.Thread(target=ask))
            others[0].start()
            others[0].join(0.2)  # as far as it comes
        return before

    if system == "other":
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: "Name: python")
    before = umask(mask)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", interrupted)
            ask()
            assert bool(others) == (system == "other")
            for other in others:
                other.join()
        assert umask(mask) == mask
    finally:
        umask(before)
    assert set(found) == {0o640}


def test_of_two_that_write_one_folder_at_once_the_second_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes to its end between the look of the first at the place and its move there."""
    told: list[Exception] = []
    second: list[threading.Thread] = []
    look, out = files.check_output, tmp_path / "out"

    def write(text: str) -> None:
        try:
            with written_beside(out) as work:
                (work / "file").write_text(text)
        except Exception as error:
            told.append(error)

    def late(output: Path) -> None:
        look(output)
        if not second:
            second.append(threading.Thread(target=write, args=("second",)))
            second[0].start()
            second[0].join(0.2)  # as far as it comes

    monkeypatch.setattr(files, "check_output", late)
    write("first")
    second[0].join()
    assert (out / "file").read_text() == "first"
    assert [type(error) for error in told] == [OutputExistsError]
    assert list(tmp_path.iterdir()) == [out]

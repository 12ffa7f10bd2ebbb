"""One process a folder: who is there is told, and a file that a process left behind holds nobody up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import BusyError
from fourierft.training import lock
from fourierft.training.arguments import Arguments
from fourierft.training.lock import FILE, Owner, find_start, held, in_turn
from fourierft.training.run import train

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom fourierft.training.lock import held\n"
    "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(float(sys.argv[2]))"
)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that holds a folder for some seconds, and returns when it has it."""
    started = []

    def hold(folder: Path, seconds: float = 60) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_another_process_is_refused_and_told_who_is_there(tmp_path: Path, hold: Any) -> None:
    process = hold(tmp_path / "out")
    with (
        pytest.raises(
            BusyError, match=f"process {process.pid} on .* has been writing into .*out since 2.*; wait for its end"
        ),
        held(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "out" / FILE).exists()


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path, hold: Any) -> None:
    process = hold(tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "out" / FILE).exists()
    with held(tmp_path / "out"):
        assert json.loads((tmp_path / "out" / FILE).read_text())["pid"] == os.getpid()


def test_a_killed_process_that_nobody_has_buried_holds_nothing(tmp_path: Path, hold: Any) -> None:
    process = hold(tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    while find_start(process.pid):  # its number stays taken until its parent asks for its status
        time.sleep(0.01)
    with held(tmp_path / "out"):
        pass


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}'])
def test_a_file_left_half_holds_nothing(tmp_path: Path, left: str) -> None:
    (tmp_path / FILE).write_text(left)
    with held(tmp_path):
        pass


def test_a_number_that_another_process_has_holds_nothing(tmp_path: Path) -> None:
    others: tuple[dict[str, Any], ...] = (
        {"started": "1"},
        {"machine": lock.find_machine().replace(" ", " another-boot-", 1)},
    )
    for other in others:
        (tmp_path / FILE).write_text(json.dumps(asdict(replace(Owner.here(), **other))))
        with held(tmp_path):
            pass


def test_the_same_process_does_not_hold_a_folder_twice(tmp_path: Path) -> None:
    with held(tmp_path):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"), held(tmp_path):
            pass
        assert (tmp_path / FILE).exists()
    assert not (tmp_path / FILE).exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    monkeypatch.setattr(lock, "PATIENCE", 0.3)


def test_on_another_machine_a_process_that_touches_its_file_holds_it(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(tmp_path):
        here = lock.find_machine()
        monkeypatch.setattr(lock, "find_machine", lambda: f"else{here}")
        with pytest.raises(BusyError), held(tmp_path):
            pass


def test_on_another_machine_a_process_that_is_silent_holds_nothing(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for machine in ("elsewhere", lock.find_machine() + "1"):  # or in another container
        (tmp_path / FILE).write_text(json.dumps(asdict(replace(Owner.here(), machine=machine))))
        with held(tmp_path):
            pass
        assert "waiting 0 s for a sign of it" in capsys.readouterr().err


def test_on_another_machine_a_process_that_ends_while_it_is_waited_for_holds_nothing(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_text(json.dumps(asdict(replace(Owner.here(), machine="elsewhere"))))
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: (tmp_path / FILE).unlink())
    with held(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / FILE).exists()


def test_of_many_that_find_a_file_left_behind_one_gets_the_folder(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(asdict(replace(Owner.here(), started="1"))))
    start, done = threading.Barrier(8), threading.Barrier(8)
    got = []

    def compete() -> None:
        start.wait()
        try:
            with held(tmp_path):
                got.append(1)
                done.wait()
        except BusyError:
            done.wait()

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b"):
        pass
    assert not (tmp_path / "a").exists()
    with held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]
    with held(tmp_path / "a" / "c", "another.pid"):
        assert (tmp_path / "a" / "c" / "another.pid").exists()
    assert not (tmp_path / "a" / "c").exists()


def test_a_file_that_was_removed_and_taken_by_another_stays_its(tmp_path: Path) -> None:
    with held(tmp_path):
        (tmp_path / FILE).write_text(json.dumps(asdict(replace(Owner.here(), pid=1))))
    assert (tmp_path / FILE).exists()


def test_two_trainings_into_one_folder_are_one(build: Callable[..., Arguments], tmp_path: Path, hold: Any) -> None:
    hold(tmp_path / "out")
    for settings in ({}, {"overwrite_output_dir": True}, {"resume_from_checkpoint": "true"}):
        with pytest.raises(BusyError, match=r"has been writing into .*out since"):
            train(build(**settings))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE]


def test_processes_that_take_turns_wait_for_one_another(tmp_path: Path) -> None:
    together, most = [], []

    def work() -> None:
        with in_turn(tmp_path / "new" / ".lock"):
            together.append(1)
            most.append(len(together))
            time.sleep(0.02)
            together.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert not (tmp_path / "new" / ".lock").exists()


@pytest.mark.parametrize("guard", [in_turn, lambda file: held(file.parent, file.name)], ids=["in_turn", "held"])
def test_a_folder_that_another_removes_meanwhile_is_made_again(tmp_path: Path, guard: Any, monkeypatch: Any) -> None:
    file, opened = tmp_path / "new" / ".lock", Path.open
    removed: list[Path] = []

    def open_late(path: Path, *args: Any, **options: Any) -> Any:
        if path == file and not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_late)
    with guard(file):
        assert removed
        assert file.exists()
    assert not (tmp_path / "new").exists()


def test_where_nothing_can_be_written_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with in_turn(tmp_path / "file" / ".lock"):
        pass

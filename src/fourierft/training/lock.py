"""One training a folder: a file that names the process that writes there, as PostgreSQL's postmaster.pid does.

A process that ended without removing its file holds nothing: on the same machine its number is free, or another process
has it, which began at another time. Of a process on another machine, or in another container, all that can be seen is
whether its file is touched, as it is every few seconds.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from fourierft.errors import BusyError

FILE = ".fourierft.pid"
BEAT, PATIENCE = 10.0, 45.0  # seconds between two touches, and to wait for one
TRIES = 100  # to open a file in a folder that others remove once it is empty


@dataclass(frozen=True)
class Owner:
    """A process that writes into a folder.

    Attributes:
        pid: number of it.
        machine: host, boot and container, within which the number means something.
        started: when it began, by the clock of that boot where there is one.
        since: when it came to the folder.
    """

    pid: int
    machine: str
    started: str
    since: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(os.getpid(), find_machine(), find_start(os.getpid()) or "", since)

    @classmethod
    def read(cls, text: str) -> Owner | None:
        """The one that a file names; None if it was left half or empty."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


def find_machine() -> str:
    """What a process number is unique in."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def find_start(pid: int) -> str | None:
    """When a process began; None if there is none of this number."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else fields[19]  # ticks since the boot, which no change of the clock moves
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return None


@contextmanager
def held(directory: Path, name: str = FILE) -> Iterator[None]:
    """Keep every other training out of a folder while this lasts; it is made if it is not there.

    Args:
        directory: to write to. If it was made here and nothing was written, it goes again.
        name: of the file in it.

    Raises: BusyError, if another process writes there.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    file = directory / name
    _take(file)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(file, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with suppress(OSError):  # it is gone, or the folder holds something
            owner = Owner.read(file.read_text(encoding="utf-8"))
            if owner is not None and owner.pid == os.getpid():
                file.unlink()
            for path in made:
                path.rmdir()


def alone_with(file: Path) -> AbstractContextManager[None]:
    """Keep every other process from a file that lines are added to while this lasts.

    Raises: BusyError, if another process writes it.
    """
    return held(file.parent, f".{file.name}.pid")


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Processes that use a file by this name wait for one another, where the system and the place can see to that.

    Args:
        file: empty; it is there while one of them runs.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # nothing can be written there, so nobody makes anything
            stack.callback(_remove_empty, [path for path in file.parents if not path.exists()])
            while True:
                stream = stack.enter_context(_open(file, "a"))
                stack.enter_context(_alone(stream))
                if _is_at(stream, file):
                    stack.callback(file.unlink, missing_ok=True)
                    break
        yield


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # it holds something
        for folder in folders:
            folder.rmdir()


def _take(file: Path) -> None:
    """Write this process into the file.

    Raises: BusyError, if another one is in it that may still run.
    """
    while True:
        with _open(file, "a+") as stream, _alone(stream):
            if not _is_at(stream, file):
                continue
            stream.seek(0)
            owner = Owner.read(stream.read())
            running = owner is not None and _is_running(owner, file)
            if not _is_at(stream, file):
                continue  # its owner ended while it was waited for
            if owner is not None and running:
                raise BusyError(
                    f"process {owner.pid} on {owner.machine.split()[0]} has been writing into "
                    f"{file.parent} since {owner.since}; wait for its end, or choose another "
                    f"folder (if that process no longer exists, remove {file})"
                )
            stream.truncate(0)
            stream.write(json.dumps(asdict(Owner.here())))
            return


def _is_running(owner: Owner, file: Path) -> bool:
    here, there = find_machine().split(" "), owner.machine.split(" ")
    if here == there:
        return find_start(owner.pid) == owner.started
    if here[0] == there[0] and len(here) == len(there) == 3 and here[1] != there[1]:
        return False  # the machine was started anew since
    print(
        f"fourierft: process {owner.pid} on {there[0]} held {file.parent}; waiting {PATIENCE:.0f} s for a sign of it",
        file=sys.stderr,
    )
    before, end = _find_touch(file), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(min(1.0, PATIENCE / 10))
        if (touch := _find_touch(file)) != before:
            return touch is not None
    return False


def _find_touch(file: Path) -> int | None:
    """When a file was last touched, in ns; None if it is gone."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _beat(file: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(file)


def _open(file: Path, mode: str) -> IO[str]:
    """Make the folder and open a file in it; another process may remove the empty folder between the two."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            file.parent.mkdir(parents=True, exist_ok=True)
            return file.open(mode, encoding="utf-8")
    return file.open(mode, encoding="utf-8")


@contextmanager
def _alone(stream: IO[str]) -> Iterator[None]:
    """Nobody else looks at the file meanwhile, where the system can see to that."""
    try:
        import fcntl
    except ImportError:  # of Windows
        yield
        return
    with suppress(OSError):  # of a file system without locks
        fcntl.flock(stream, fcntl.LOCK_EX)
    yield


def _is_at(stream: IO[str], file: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), file.stat())
    except FileNotFoundError:
        return False

"""A folder that is written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fourierft.adapters.place import check_place, written_to
from fourierft.errors import OutputExistsError

_SUFFIX = ".unfinished"


def check_output(output: Path) -> None:
    """See whether a folder can be written.

    Raises: OutputExistsError, if something stands there. PlaceError, if nothing can be written there.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputExistsError(f"{output} is there already and is not an empty folder; name another or remove it")
    check_place(output.parent)


@contextmanager
def written_beside(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its name when the block ends well, and goes when it does not.

    Raises: OutputExistsError, if something stands there by then. PlaceError, if it cannot be written.
    """
    with written_to(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with workspace(output) as folder:
            work = folder / "result"
            work.mkdir()
            yield work
            check_output(output)
            if output.exists():
                output.rmdir()
            os.replace(work, output)


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target` for what is to take its place, which goes when the block ends.

    What a killed process left of such folders goes too.
    """
    parent = target.absolute().parent
    start = f".{target.name[:100]}-"
    with lock_folder(parent):
        _remove_unfinished(parent, start)
        work = Path(tempfile.mkdtemp(prefix=start, suffix=_SUFFIX, dir=parent))
        held = _hold(work)
    try:
        work.chmod(0o755)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if held is not None:
            os.close(held)


@contextmanager
def lock_folder(folder: Path) -> Iterator[int | None]:
    """The open folder, in which no other process of this package puts or removes a file meanwhile; None on Windows."""
    if os.name == "nt":
        yield None
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a file system without locks
            import fcntl

            fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened
    finally:
        os.close(opened)


def _remove_unfinished(parent: Path, start: str) -> None:
    """Remove those that no living process holds."""
    pattern = re.compile(re.escape(start) + r"[a-z0-9_]{8}" + re.escape(_SUFFIX))
    for found in [entry for entry in os.scandir(parent) if pattern.fullmatch(entry.name)]:
        held = _hold(Path(found.path))
        if held is not None:
            shutil.rmtree(found.path, ignore_errors=True)
            os.close(held)


def _hold(folder: Path) -> int | None:
    """An open folder with a lock on it, as long as it is open; None if another process has it."""
    try:
        import fcntl

        opened = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened

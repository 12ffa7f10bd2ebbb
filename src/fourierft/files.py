"""Files and folders that results go to: written beside and then renamed, so that each is there whole or not at all.

What keeps them out is told in a sentence: a file system that is read-only, or full, or not the user's.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fourierft.errors import ConfigError, FourierFTError, OutputExistsError, PlaceError

WEIGHTS = ".safetensors"
_UNFINISHED = ".unfinished"
_MASKING = threading.Lock()

_REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "your share of the disk is used up",
    errno.EFBIG: "a file would become larger than is allowed",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk answers with an error",
    0: "a file was cut short, as where no space is left",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, 0)
_RUST = re.compile(r"\(os error (\d+)\)")  # how safetensors and tokenizers, which are written in Rust, tell the errno
_TORCH = ("unexpected pos", "PytorchStreamWriter failed")  # torch's words for a file that it could not write whole


def explain(error: BaseException) -> str | None:
    """What keeps a file from being read or written, and what to do; None if the error is another one."""
    found = _find_number(error)
    if found is None:
        return None
    number, name = found
    remedy = "make room, then try again" if number in _FULL else "name another place, or ask for the right to this one"
    return f"{f'{name}: ' if name else ''}{_REASONS[number]}; {remedy}"


@contextmanager
def written_to(place: Path) -> Iterator[None]:
    """While this lasts, what keeps files out of a place is an error that names it.

    Raises: PlaceError.
    """
    try:
        yield
    except FourierFTError:
        raise
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        raise PlaceError(f"{place} was not written: {reason}") from error


def as_path(given: object, what: str) -> Path:
    """A path that was given.

    Args:
        what: it is, for the error.

    Raises: ConfigError, if it is none.
    """
    if not isinstance(given, str | os.PathLike) or not str(given):
        raise ConfigError(f"{what} is {given!r}, which is not a path; give a text or a Path")
    return Path(given)


def check_place(folder: str | Path, size: int = 0) -> None:
    """See whether a file can be written into a folder, there or yet to be made; nothing of that stays.

    Args:
        folder: of results.
        size: bytes that are surely to be written.

    Raises: PlaceError, if it can't be.
    """
    folder = Path(folder)
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0")
        free = shutil.disk_usage(there).free
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise PlaceError(f"cannot write into {folder}: {reason}; choose another folder") from error
    if free < size:
        raise PlaceError(
            f"{folder} has {free / 1000000.0:,.1f} MB left, but {size / 1000000.0:,.1f} "
            "MB are needed; make room, or choose another folder"
        )


def check_file(file: str | Path) -> None:
    """See whether a file can be written, in a folder that is there or yet to be made.

    Raises: PlaceError, if it can't be.
    """
    file = Path(file)
    if file.is_dir():
        raise PlaceError(f"{file} is a folder; name a file")
    check_place(file.absolute().parent)


def write_text(path: str | Path, text: str) -> None:
    """Write text; a file that is there is replaced whole or not at all. Its folder is made if it is not there.

    Raises: PlaceError, if it cannot be written.
    """
    path = Path(path)
    with written_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_beside(path) as beside:
            beside.write_text(text, encoding="utf-8")


@contextmanager
def file_beside(path: str | Path) -> Iterator[Path]:
    """A free name beside `path`: what stands there when the block ends well takes its place, and goes otherwise."""
    path = Path(path)
    beside = path.with_name(f".{path.name[:100]}-{secrets.token_hex(4)}{path.suffix[:20]}")
    try:
        yield beside
        if path.suffix == WEIGHTS:
            share(beside)
        os.replace(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def share(place: Path) -> None:
    """Give safetensors files the rights of any new file; safetensors 0.8 writes them for their owner alone (its #782).

    Args:
        place: a file, or a folder with all that is below it. What others may read already stays as it is.
    """
    for file in [place] if place.is_file() else place.rglob(f"*{WEIGHTS}"):
        if not file.is_symlink() and not file.stat().st_mode & 0o077:
            file.chmod(new_rights())


def new_rights() -> int:
    """The mode of a file that is made now."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        mask = int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    except (OSError, StopIteration):  # not on Linux: only who sets it can read it, one thread at a time
        with _MASKING:
            mask = os.umask(0o077)  # what another thread makes meanwhile is its owner's alone
            os.umask(mask)
    return 0o666 & ~mask


def check_output(output: Path) -> None:
    """See whether a folder can be written.

    Raises: OutputExistsError, if something stands there. PlaceError, if nothing can be written there.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputExistsError(f"{output} exists and is not an empty folder; choose another name, or remove it")
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
            share(work)
            with lock_folder(output.absolute().parent):
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
        work = Path(tempfile.mkdtemp(prefix=start, suffix=_UNFINISHED, dir=parent))
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
    pattern = re.compile(re.escape(start) + r"[a-z0-9_]{8}" + re.escape(_UNFINISHED))
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


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _find_number(error: BaseException | None) -> tuple[int, str | None] | None:
    """The errno of an error, or of what it stands for, and the file's name if it is known."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _REASONS:
            return error.errno, None if error.filename is None else os.fsdecode(error.filename)
        rust = _RUST.search(str(error))
        if rust and int(rust[1]) in _REASONS:
            return int(rust[1]), None
        if isinstance(error, RuntimeError) and any(mark in str(error) for mark in _TORCH):
            return 0, None
        error = error.__cause__
    return None

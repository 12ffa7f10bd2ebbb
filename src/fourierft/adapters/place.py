"""Places that results go to, and what keeps them out: a file system that is read-only, or full, or not the user's."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fourierft.errors import FourierFTError, PlaceError

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
        raise PlaceError(f"nothing can be written into {folder}: {reason}; name another place") from error
    if free < size:
        raise PlaceError(
            f"{folder} has {free / 1e6:,.1f} MB left, but {size / 1e6:,.1f} MB are to be written; make room, or name "
            "another place"
        )


def check_file(file: str | Path) -> None:
    """See whether a file can be written, in a folder that is there or yet to be made.

    Raises: PlaceError, if it can't be.
    """
    file = Path(file)
    if file.is_dir():
        raise PlaceError(f"{file} is a folder; name a file")
    check_place(file.absolute().parent)


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

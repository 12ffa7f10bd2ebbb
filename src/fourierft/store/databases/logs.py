"""The logs beside a SQLite file: those that a killed process left must not come back over another file.

SQLite takes any log of the right name for that of the file (https://www.sqlite.org/howtocorrupt.html, section 1.4).
So every transaction of a store writes a random token into the header of the file, and the token before it. A log
belongs to a file whose token is the one before the log's first, or one of the log's own.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path
from urllib.parse import quote

from fourierft.errors import StoreError

SUFFIXES = ("-wal", "-shm", "-journal")
_MAGIC = (0x377F0682, 0x377F0683)
_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")  # https://www.sqlite.org/fileformat.html, section 4.1
_TOKEN, _BEFORE = 60, 68  # places in the first page: user_version, application_id


def address(path: Path, **options: object) -> str:
    """The URI of a file for `sqlite3.connect`."""
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return f"file:{quote(os.fsencode(path.absolute()))}?{query}"


def log_of(path: Path) -> Path:
    """The write-ahead log of a file."""
    return path.with_name(f"{path.name}-wal")


def has_log(path: Path) -> bool:
    """Whether a file has a log that is not empty."""
    try:
        return log_of(path).stat().st_size > 0
    except FileNotFoundError:
        return False


def new_token() -> int:
    return int.from_bytes(os.urandom(4), "big") & 0x7FFFFFFF | 1


def stamp(connection: sqlite3.Connection) -> None:
    (before,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA application_id = {before}")
    connection.execute(f"PRAGMA user_version = {new_token()}")


def remove_logs(path: Path) -> None:
    """Remove the logs of a file that is gone."""
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def check_log(path: Path) -> None:
    """Raise StoreError if the log beside a file is another file's."""
    while has_log(path):
        before = (_read_token(path), _read_header(path))
        if _belongs(path, before[0]):
            return
        if before == (_read_token(path), _read_header(path)):  # nobody wrote meanwhile
            raise StoreError(
                f"{path} was replaced, but {log_of(path).name} beside it is the log of the "
                f"old file; remove that log to keep {path.name} as it is (`fourierft store "
                "restore` replaces the content of a store)"
            )


def _read_token(path: Path) -> int:
    """The token of the file alone, by SQLite: a file that it has open must be closed by nobody else.

    The file may be shorter than its header says: a checkpoint that goes on, or was killed, writes the first page first.
    """
    connection = sqlite3.connect(address(path, immutable=1), uri=True)
    try:
        connection.execute("PRAGMA writable_schema = ON")  # takes a file that is too short as it is
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def _read_header(path: Path) -> bytes:
    try:
        with log_of(path).open("rb") as file:
            return file.read(_HEADER.size)
    except FileNotFoundError:
        return b""


def _belongs(path: Path, token: int) -> bool:
    """Whether the log has the token of its file; true of what is no log, which SQLite passes over."""
    try:
        with log_of(path).open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return True
            magic, _, page_size, _, *salts, _, _ = _HEADER.unpack(header)
            if magic not in _MAGIC:
                return True
            is_first, place = True, _HEADER.size
            while True:
                file.seek(place)
                frame = file.read(_FRAME.size)
                if len(frame) < _FRAME.size:
                    return is_first
                page, _, *found, _, _ = _FRAME.unpack(frame)
                if found != salts:
                    return is_first
                if page == 1:
                    content = file.read(_BEFORE + 4)
                    if len(content) < _BEFORE + 4:
                        return is_first
                    own, last = (int.from_bytes(content[at : at + 4], "big", signed=True) for at in (_TOKEN, _BEFORE))
                    if token in ((own, last) if is_first else (own,)):
                        return True
                    is_first = False
                place += _FRAME.size + page_size
    except FileNotFoundError:
        return True

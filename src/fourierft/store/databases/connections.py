"""Connections to one SQLite file, one a thread, none of which a forked process ever uses or closes.

A fork copies the locks that libraries hold in other threads, whose ends never come; so those that use any store are
waited for. And a fork inherits SQLite's memory of its locks, but not the locks
(https://www.sqlite.org/howtocorrupt.html, section 2.6). So connections that rest are closed before a fork, and both
processes open their own when they need one. What is still in use is lost to the child: it never touches such a
connection again, nor opens its file, and says so.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fourierft.errors import StoreError

T = TypeVar("T")
D = TypeVar("D")
LOST = "a store in use cannot be shared across a fork; open it again in the forked process"
_CLOSED = "Cannot operate on a closed database."  # as sqlite3 has it
PATIENCE = 5.0  # seconds that a fork waits for other threads

_changing = threading.Condition(threading.RLock())  # held while a fork is made, or a use begins or ends
_all: weakref.WeakSet[Connections] = weakref.WeakSet()
_users: dict[int, int] = {}  # thread -> its uses of any store that have begun and not ended
_forking = False
_lost: set[tuple[int, int]] = set()  # device and inode of files that this process must not open


def first(rows: Iterator[T], default: D) -> T | D:
    """The first of some rows. The rest is closed here: a Ctrl-C while Python forgets a generator is lost."""
    try:
        return next(rows, default)
    finally:
        if isinstance(rows, Generator):
            rows.close()


class Held:
    """The connection of a thread.

    Attributes:
        thread: whose it is.
        users: how many uses of it have begun and not ended.
        is_closing: whether it is used no more, and closed when these have ended: closed by another thread in the
            middle of a read, it would end the process.
        cursors: rows that are being read.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.users = 0
        self.is_closing = False
        self.cursors: set[sqlite3.Cursor] = set()
        self.is_lost = False
        self.opened: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection.

        Raises: StoreError, in a process that was forked while it was in use. sqlite3.Error, if it was closed.
        """
        self.check()
        if self.opened is None:
            raise sqlite3.ProgrammingError(_CLOSED)
        return self.opened

    def check(self) -> None:
        """Raise what `connection` would, for rows that are being read."""
        if self.is_lost:
            raise StoreError(LOST)
        if self.is_closing:
            raise sqlite3.ProgrammingError(_CLOSED)

    def close(self) -> None:
        """Close it, unless it is another process's."""
        opened, self.opened = self.opened, None
        if opened is not None and not self.is_lost:
            opened.close()

    def lose(self) -> None:
        """Let it never be closed, not even when the process ends: it has become another process's."""
        self.is_lost = True
        for kept in (self.opened, *self.cursors):
            keep_for_ever(kept)

    def __del__(self) -> None:
        self.close()  # of a thread that ended


class Connections:
    """The connections of all threads to one file.

    Args:
        path: of the file.
        open_one: opens a connection.
    """

    def __init__(self, path: Path, open_one: Callable[[], sqlite3.Connection]):
        self._path, self._open_one = path, open_one
        self._threads = threading.local()
        self._held: weakref.WeakSet[Held] = weakref.WeakSet()
        _all.add(self)

    @contextmanager
    def use(self) -> Iterator[Held]:
        """This thread's connection, opened when it is first used; no fork is made inside, or it is lost to the child.

        Raises: StoreError, if the file was in use when this process was forked. sqlite3.Error, if it cannot be opened.
        """
        with in_use():
            with _changing:
                held = getattr(self._threads, "held", None)
                if held is None or held.is_closing:
                    held = self._threads.held = Held()
                    self._held.add(held)
                held.users += 1
            try:
                if held.opened is None:
                    check_not_lost(self._path)
                    held.opened = self._open_one()
                yield held
            finally:
                with _changing:
                    held.users -= 1
                    is_last = held.is_closing and not held.users
                if is_last:
                    held.close()

    def close(self) -> None:
        """Close those of all threads; one that another thread uses, when that has ended the read or write at hand."""
        with _changing:
            found = list(self._held)
            for held in found:
                held.is_closing = True
            unused = [held for held in found if not held.users or held.thread == threading.get_ident()]
        for held in unused:
            held.close()

    def before_fork(self) -> None:
        """Close those that rest."""
        for held in list(self._held):
            if not held.users:
                held.close()

    def in_child(self) -> None:
        """Forget those that were in use, and their file."""
        lost = [held for held in self._held if held.opened is not None]
        for held in lost:
            held.lose()
        if lost and self._path.exists():
            _lost.add(_identity(self._path))
        self._threads = threading.local()
        self._held = weakref.WeakSet()


@contextmanager
def in_use() -> Iterator[None]:
    """A use of a store: other threads make no fork inside, if it ends soon."""
    thread = threading.get_ident()
    with _changing:
        while _forking and thread not in _users:
            _changing.wait()
        _users[thread] = _users.get(thread, 0) + 1
    try:
        yield
    finally:
        with _changing:
            _users[thread] = _users.get(thread, 1) - 1
            if not _users[thread]:
                del _users[thread]
            _changing.notify_all()


def keep_for_ever(what: object) -> None:
    """Let an object of another process never be freed, not even when this one ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


def check_not_lost(path: Path) -> None:
    """Raise StoreError if a file was in use when this process was forked."""
    if _lost and path.exists() and _identity(path) in _lost:
        raise StoreError(
            f"{path} was in use when this process was forked, so this process cannot "
            "reach its locks; fork when the store is not in use, or start processes "
            "with spawn"
        )


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _before_fork() -> None:
    global _forking
    _changing.acquire()
    _forking = True
    end = time.monotonic() + PATIENCE
    while _users.keys() - {threading.get_ident()} and (left := end - time.monotonic()) > 0:
        _changing.wait(left)
    for each in list(_all):
        each.before_fork()


def _after_fork_in_parent() -> None:
    global _forking
    _forking = False
    _changing.notify_all()
    _changing.release()


def _after_fork_in_child() -> None:
    global _forking, _changing
    _forking, _changing = False, threading.Condition(threading.RLock())
    for thread in _users.keys() - {threading.get_ident()}:
        del _users[thread]
    for each in list(_all):
        each.in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

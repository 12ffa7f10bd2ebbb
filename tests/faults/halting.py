"""Processes that are killed at a chosen change of a file: SQLite's own system calls, and those of Python."""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import signal
import sys
from typing import Any

_CALLS = {  # of SQLite, that change a file: result and arguments
    "write": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t),
    "pwrite": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "pwrite64": (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "ftruncate": (ctypes.c_int, ctypes.c_int, ctypes.c_int64),
    "unlink": (ctypes.c_int, ctypes.c_char_p),
}
_EVENTS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}
_PAGE = 4096  # bytes that the system writes whole


class _VFS(ctypes.Structure):
    """The head of sqlite3_vfs (https://www.sqlite.org/c3ref/vfs.html)."""

    _fields_ = (
        [("version", ctypes.c_int), ("file_size", ctypes.c_int), ("longest", ctypes.c_int)]
        + [(name, ctypes.c_void_p) for name in ("next", "name", "data")]
        + [(f"call{k}", ctypes.c_void_p) for k in range(13)]
        + [(name, ctypes.c_void_p) for name in ("set_call", "get_call", "next_call")]
    )


class Halt:
    """Counts the changes of files that this process makes, and kills it at one of them.

    Args:
        at: which one, from 1; 0 for none.
        tears: whether that one is done by half before, if it writes more than the system does at once.
    """

    def __init__(self, at: int, tears: bool = False) -> None:
        self.count = 0
        self._at, self._tears = at, tears
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_VFS)
        vfs = library.sqlite3_vfs_find(None)
        self._kept: list[Any] = []
        for name, types in _CALLS.items():
            self._replace(vfs, name, ctypes.CFUNCTYPE(*types, use_errno=True))
        sys.addaudithook(self._see)

    def _replace(self, vfs: Any, name: str, kind: Any) -> None:
        get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_VFS), ctypes.c_char_p)(vfs.contents.get_call)
        put = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_VFS), ctypes.c_char_p, ctypes.c_void_p)(
            vfs.contents.set_call
        )
        found = get(vfs, name.encode())
        if not found:
            return
        call = kind(found)

        def counted(*arguments: Any) -> int:
            self._step(call, arguments)
            return int(call(*arguments))

        own = kind(counted)
        self._kept.append(own)
        assert put(vfs, name.encode(), ctypes.cast(own, ctypes.c_void_p)) == 0

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            self._step(None, arguments)

    def _step(self, call: Any, arguments: tuple[Any, ...]) -> None:
        self.count += 1
        if self.count != self._at:
            return
        if self._tears and call is not None and len(arguments) > 2 and arguments[2] > _PAGE:
            call(*arguments[:2], arguments[2] // 2 // _PAGE * _PAGE or _PAGE, *arguments[3:])
        os.kill(os.getpid(), signal.SIGKILL)

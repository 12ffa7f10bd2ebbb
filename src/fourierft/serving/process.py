"""A server as a process that runs for as long as it is needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fourierft.errors import BackendError

_LINES = 20  # of the log, told when a server does not come up


@contextmanager
def free_port() -> Iterator[int]:
    """A port of this machine that no other program is given while this lasts, for a server that is started inside.

    A socket holds it that does not listen. Servers set the same options, with which they may listen there all the same.
    """
    with socket.socket() as holding:
        for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
            if hasattr(socket, option):
                holding.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        holding.bind(("127.0.0.1", 0))
        yield holding.getsockname()[1]


@contextmanager
def running(
    words: Sequence[str], address: str, log: Path, environment: Mapping[str, str] | None = None, seconds: float = 900
) -> Iterator[subprocess.Popen[Any]]:
    """Inside, a server answers; after it, the server has ended what it had begun, and is gone.

    Args:
        words: the command.
        address: where it answers `/health`, when it is ready.
        log: gets what it prints.
        environment: of the process; that of this one if left out.
        seconds: to wait for it.

    Raises: BackendError with the end of the log, if it ends or does not answer.
    """
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env=dict(environment or os.environ))
    try:
        _wait(f"{address}/health", process, log, seconds)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_of(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:])


def _wait(address: str, process: subprocess.Popen[Any], log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BackendError(f"the server ended with {process.returncode}; the end of {log}:\n{end_of(log)}")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise BackendError(f"the server did not answer in {seconds:.0f} s; the end of {log}:\n{end_of(log)}")

"""A server as a process, which Python's own stands in for."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from fourierft.errors import BackendError
from fourierft.serving.process import free_port, running


def test_a_port_is_kept_for_the_server_that_it_is_for() -> None:
    with free_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            pass  # Python sets the option there, as servers do
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_a_server_is_waited_for_and_told_to_end(tmp_path: Path) -> None:
    (tmp_path / "health").write_text("fine")
    words = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with free_port() as port, running([*words, str(port)], f"http://127.0.0.1:{port}", tmp_path / "log") as process:
        assert process.poll() is None
    assert process.returncode == -signal.SIGTERM


def test_what_a_server_said_that_did_not_come_up_is_told(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "raise SystemExit('no memory left')"]
    with (
        pytest.raises(BackendError, match=r"(?s)ended with 1.*no memory left"),
        free_port() as port,
        running(words, f"http://127.0.0.1:{port}", tmp_path / "log"),
    ):
        raise AssertionError


def test_a_server_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import time; print('thinking', flush=True); time.sleep(100)"]
    with (
        pytest.raises(BackendError, match="did not answer in 1 s"),
        free_port() as port,
        running(words, f"http://127.0.0.1:{port}", tmp_path / "log", seconds=1.0),
    ):
        raise AssertionError

"""Servers as processes; asking them is tested in tests/serving/vllm, where a client is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.serving.server import Answer, fleet_server, read_answer, running


def test_a_server_is_waited_for_and_ended(tmp_path: Path) -> None:
    (tmp_path / "health").write_text("fine")
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with running(command, tmp_path / "log") as server:
        assert server.get("/health") == "fine"
        assert server.memory() > 2**20
        assert server.process.poll() is None
    assert server.process.poll() is not None


def test_what_a_server_said_is_shown_if_it_does_not_come_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no port for me')"]
    with pytest.raises(SystemExit, match="did not come up"), running(command, tmp_path / "log"):
        raise AssertionError
    assert "no port for me" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "text", "answer"),
    [
        (200, '{"choices": [{"token_ids": [4, 5]}]}', Answer(200, [4, 5], None)),
        (429, '{"error": {"message": "too much"}}', Answer(429, [], "too much")),
        (500, "Internal Server Error", Answer(500, [], None)),
        (404, '{"detail": "no"}', Answer(404, [], None)),
    ],
)
def test_answers_and_errors_are_told_apart(status: int, text: str, answer: Answer) -> None:
    assert read_answer(status, text) == answer


def test_the_command_names_the_store_and_the_slots() -> None:
    words = fleet_server(Path("base"), Path("fleet.db"), 7, "--block-size 32")
    assert words[words.index("--store") + 1] == "fleet.db"
    assert words[words.index("--slots") + 1] == "7"
    assert words[-1].startswith("--vllm=--dtype float32")
    assert words[-1].endswith("--block-size 32")

"""Servers as processes; asking them is tested in tests/serving/vllm, where a client is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.bench.serving.server import Answer, fleet_server, read_answer, running


def serve_folder(folder: Path) -> list[str]:
    (folder / "health").write_text("fine")
    return [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1", "--directory", str(folder)]


def test_a_server_is_reached_at_a_free_port(tmp_path: Path) -> None:
    with running(serve_folder(tmp_path), tmp_path / "log") as server:
        assert server.get("/health") == "fine"
        assert server.memory() > 2**20
    assert server.process.poll() is not None


def test_what_the_server_said_is_shown_where_a_measurement_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), running(serve_folder(tmp_path), tmp_path / "log"):
        raise SystemExit("wrong")
    assert '"GET /health' in capsys.readouterr().err


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

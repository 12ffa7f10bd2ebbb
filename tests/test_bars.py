"""The one kind of progress bar."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from fourierft.bars import bar, close_all


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)


def draw(stream: io.StringIO) -> list[int]:
    """Go through three rows with a bar on a stream."""
    with redirect_stderr(stream):
        return list(bar(range(3), "adding", "adapters"))


def shown(terminal: Terminal) -> str:
    """What stands on the line that the bar had, when it is done."""
    return terminal.getvalue().rpartition("\r")[2].strip()


def test_a_terminal_has_a_bar_that_is_gone_in_the_end() -> None:
    terminal = Terminal()
    assert draw(terminal) == [0, 1, 2]
    assert "adding: " in terminal.getvalue()
    assert "adapters/s" in terminal.getvalue()
    assert shown(terminal) == ""


def test_a_file_has_none() -> None:
    stream = io.StringIO()
    assert draw(stream) == [0, 1, 2]
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("name", "value", "drawn"),
    [
        ("RANK", "0", True),  # of several processes, the first
        ("RANK", "1", False),
        ("TQDM_DISABLE", "1", False),  # tqdm's own switch
        ("TQDM_DISABLE", "true", False),
        ("TQDM_DISABLE", "0", True),
        ("TQDM_DISABLE", "", True),
    ],
)
def test_the_environment_may_leave_it_out(monkeypatch: pytest.MonkeyPatch, name: str, value: str, drawn: bool) -> None:
    monkeypatch.setenv(name, value)
    terminal = Terminal()
    draw(terminal)
    assert bool(terminal.getvalue()) == drawn


def test_what_comes_after_an_interruption_has_a_line_of_its_own() -> None:
    terminal = Terminal()
    with redirect_stderr(terminal):
        rows = iter(bar(range(3), "adding", "adapters"))
        next(rows)
    assert shown(terminal) != ""
    close_all()
    assert shown(terminal) == ""

"""What commands put on a console: one bar on a terminal, lines and nothing else in pipes, no warnings of libraries."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fourierft.cli import frame, main
from fourierft.store import AdapterStore


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.csv"
    path.write_text("text,label\n" + "the good film,yes\na bad film,no\n" * 16)
    return path


@pytest.fixture(scope="module")
def flags(tiny_bert: Path, words: Path) -> list[str]:
    return [
        *("--model_name_or_path", str(tiny_bert), "--train_file", str(words), "--validation_file", str(words)),
        *("--max_steps", "4", "--eval_steps", "2", "--logging_steps", "1", "--use_cpu"),
    ]


def run(*words: str) -> tuple[str, str]:
    """Standard output and error of a command whose output is piped."""
    done = subprocess.run([sys.executable, "-m", "fourierft.cli.main", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def run_on_terminal(*words: str, until: str | None = None, status: int = 0, before: str = "") -> str:
    """What a command writes to a terminal.

    Args:
        until: text after which Ctrl-C comes.
        status: that it ends with.
        before: code that its process runs first.
    """
    code = f"{before}\nimport sys\nfrom fourierft.cli.main import main\nsys.exit(main())"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=partial(_take_terminal, theirs),
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color", "TQDM_MININTERVAL": "0"},
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while more := os.read(ours, 1 << 16):
                seen += more
                if until is not None and until.encode() in seen:
                    until = None
                    os.write(ours, b"\x03")
        except OSError:  # what Linux says when the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == status, seen.decode()
    return seen.decode()


def _take_terminal(terminal: int) -> None:
    """Let the terminal be this process's own, so that its Ctrl-C reaches it, which what a shell runs behind ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def bars_in(seen: str) -> list[str]:
    return [part for part in seen.replace("\n", "\r").split("\r") if "%|" in part]


def test_pipes_get_lines_and_no_bars_and_no_warnings(flags: list[str], tmp_path: Path) -> None:
    out, error = run("train", *flags, "--output_dir", str(tmp_path / "out"))
    assert error == ""
    assert "\r" not in out
    assert "\x1b" not in out
    steps = [line.partition(":")[0] for line in out.splitlines() if line.startswith("step ")]
    assert [steps.count(f"step {step} of 4") for step in (1, 2, 3, 4)] == [1, 2, 1, 3]


def test_a_terminal_gets_one_bar_that_is_gone_in_the_end(flags: list[str], tmp_path: Path) -> None:
    seen = run_on_terminal("train", *flags, "--method", "head", "--output_dir", str(tmp_path / "out"))
    bars = bars_in(seen)
    assert bars
    assert all(part.startswith("training: ") for part in bars)
    assert any(", evaluating " in part for part in bars)
    assert "\x1b[A" not in seen  # a bar above another
    assert "\x1b[3" not in seen  # colour
    assert "Warning" not in seen


def test_a_home_that_cannot_be_written_is_no_matter_of_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.NOTSET)  # commands of other tests have hushed it
    request.addfinalizer(partial(logging.getLogger("matplotlib").setLevel, logging.NOTSET))
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "file" / "below"))
    remembering: Any = matplotlib.get_configdir
    look = remembering.__wrapped__
    look()
    assert "created a temporary" in caplog.text
    caplog.clear()
    frame.hush_libraries()
    look()
    assert caplog.text == ""


def test_what_libraries_will_change_is_no_matter_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        monkeypatch.setattr(sys, "warnoptions", ["always"])
        frame.hush_libraries()
        warnings.warn("asked for", FutureWarning, stacklevel=1)
        monkeypatch.setattr(sys, "warnoptions", [])
        frame.hush_libraries()
        warnings.warn("not asked for", FutureWarning, stacklevel=1)
        warnings.warn("Could not find a config file in x - will assume that the vocabulary was not modified.")  # noqa: B028
        warnings.warn("of the user's data", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["asked for", "of the user's data"]


SLOW = """
import time
from fourierft.store import AdapterStore
add = AdapterStore.add
AdapterStore.add = lambda *given, **named: time.sleep(0.02) or add(*given, **named)
"""


def test_ctrl_c_says_in_one_sentence_what_stays(adapter: Path, tmp_path: Path) -> None:
    """However fast the machine, there are nine seconds between the bar, which comes after one, and the last adapter."""
    for number in range(500):
        shutil.copytree(adapter, tmp_path / f"many/a{number}")
    seen = run_on_terminal(
        *("store", "import", str(tmp_path / "fleet.db"), str(tmp_path / "many")),
        until="adding: ",
        status=130,
        before=SLOW,
    )
    last = seen.rstrip().rpartition("\r")[2]
    assert last == "fourierft: interrupted; what was added stays, and the same command adds the rest"
    assert "Traceback" not in seen
    with AdapterStore(tmp_path / "fleet.db") as store:
        assert 0 < len(store) < 500


def test_ctrl_c_after_all_is_said_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["fourierft", "store", "list", "nowhere.db"])
    try:
        assert main.main() == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

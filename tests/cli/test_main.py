"""The command line's frame: help, exit statuses, and commands imported only when asked for."""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import logging
import re
import subprocess
import sys
import types
from typing import Any

import pytest

from fourierft import __version__
from fourierft.cli import frame
from fourierft.cli import main as cli
from fourierft.errors import DataError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command `probe` made of a module in memory; its `run` returns the number given."""
    module: Any = types.ModuleType("fourierft.cli.probe", "Probe the frame.\n\nExample:\n  fourierft probe 3")
    module.add_arguments = lambda parser: parser.add_argument("number", type=int)
    module.run = lambda arguments: arguments.number
    monkeypatch.setitem(sys.modules, "fourierft.cli.probe", module)
    monkeypatch.setitem(cli.COMMANDS, "probe", "probe the frame")
    return module


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {name}\s", text, re.MULTILINE) for name in cli.COMMANDS)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == f"fourierft {__version__}"


def test_help_imports_no_heavy_library() -> None:
    assert loaded_by([]) == set()


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name not in ("train", "dreambooth")])
def test_help_of_a_command_imports_no_heavy_library(command: str) -> None:
    assert loaded_by([command, "--help"]) == set()


@pytest.mark.parametrize("command", ["train", "dreambooth"])
def test_help_of_a_training_imports_transformers_parser_alone(command: str) -> None:
    assert loaded_by([command, "--help"]) <= {"transformers", "numpy"}


def loaded_by(argv: list[str]) -> set[str]:
    """The slow libraries that a fresh interpreter holds after it has made the help of a command."""
    code = (
        f"import sys\nfrom fourierft.cli.main import build_parser\nbuild_parser({argv}).format_help()\n"
        "print(*{'torch', 'transformers', 'peft', 'datasets', 'matplotlib', 'sklearn', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_status_is_what_run_returns(command: Any) -> None:
    assert cli.main(["probe", "7"]) == 7


def test_description_is_the_modules_docstring(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["probe", "--help"])
    assert "Example:\n  fourierft probe 3" in capsys.readouterr().out


def test_parents_lend_their_arguments(command: Any) -> None:
    lender = argparse.ArgumentParser(add_help=False)
    lender.add_argument("--extra", type=int, default=0)
    asked = []
    command.parents = lambda asks_help: asked.append(asks_help) or [lender]
    command.run = lambda arguments: arguments.number + arguments.extra
    assert cli.main(["probe", "1", "--extra", "4"]) == 5
    with pytest.raises(SystemExit):
        cli.main(["probe", "--help"])
    assert asked == [False, True]


def test_a_command_may_have_no_arguments(command: Any) -> None:
    del command.add_arguments
    command.run = lambda arguments: 3
    assert cli.main(["probe"]) == 3


def test_error_is_one_line_and_status_two(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise DataError("no rows in a.csv; give a file with at least one")

    command.run = fail
    assert cli.main(["probe", "1"]) == 2
    assert capsys.readouterr().err == "fourierft: error: no rows in a.csv; give a file with at least one\n"


@pytest.mark.parametrize(("installed", "status"), [("0.17.1", 2), ("0.21.2", None)])
def test_an_import_that_fails_is_told_by_the_release_of_peft_if_that_is_the_reason(
    command: Any,
    installed: str,
    status: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from peft import nothing_of_this_name  # type: ignore[attr-defined]  # noqa: F401

        return 0

    command.run = run
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed if name == "peft" else version(name))
    if status is None:
        with pytest.raises(ImportError, match="nothing_of_this_name"):
            cli.main(["probe", "1"])
        return
    assert cli.main(["probe", "1"]) == status
    assert capsys.readouterr().err == (
        "fourierft: error: peft 0.17.1 is installed, but fourierft needs peft>=0.18,<0.22; "
        "pip install 'peft>=0.18,<0.22'\n"
    )


def test_interrupt_has_status_130(command: Any) -> None:
    def interrupt(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command.run = interrupt
    assert cli.main(["probe", "1"]) == 130


def test_unknown_command_has_status_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["trian"])
    assert exit_.value.code == 2
    assert "trian is unknown; did you mean train?" in capsys.readouterr().err


def test_what_peft_imports_does_not_warn_of_what_a_cpu_lacks() -> None:
    cli.main(["inspect", "nowhere"])
    assert not any(logging.getLogger(name).isEnabledFor(logging.WARNING) for name in frame.CHATTY)


def test_what_the_place_forbids_is_one_line_whoever_wrote_there(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: argparse.Namespace) -> int:
        raise OSError(errno.EROFS, "Read-only file system", "/data/out")

    command.run = run
    assert cli.main(["probe", "3"]) == 2
    assert capsys.readouterr().err == (
        "fourierft: error: /data/out: the file system is read-only; name another place, or ask for the right to this "
        "one\n"
    )

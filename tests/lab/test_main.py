"""`python -m lab`: its rooms, their commands, and what stands in the package's help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fourierft.cli.main import COMMANDS as PACKAGED
from fourierft.cli.main import main as fourierft
from lab.__main__ import COMMANDS, ROOMS, main
from lab.folders import ROOT

OWN = [(room, name) for room, names in COMMANDS.items() for name in names]


def test_help_names_every_room(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {name} " in text for name in ROOMS)


@pytest.mark.parametrize(("room", "name"), [*((room, "") for room in ROOMS), *OWN])
def test_every_command_explains_itself(room: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([room, *([name] if name else []), "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {' '.join(['python -m lab', room, name]).strip()} ")
    assert f"python -m lab {room}" in text.partition("\n")[2]


def test_an_unknown_trial_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["trials", "curves"])
    assert exit_.value.code == 2
    assert "curves is unknown; did you mean curve?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["store --adapters -3", "store --kills x", "zipf --capacity 0", "zipf --batches 1.5", "serving exact --slots 0"],
)
def test_a_count_that_is_none_is_told(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", *words.split()])
    assert exit_.value.code == 2
    name, value = words.split()[-2:]
    assert f"argument {name}: {value} is not a whole number of at least " in capsys.readouterr().err


def test_an_interrupted_run_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lab.paper import rates

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rates, "table_rows", interrupt)
    assert main(["paper", "rates"]) == 130
    assert capsys.readouterr().err == "python -m lab paper: interrupted; the same command goes on from there\n"


def test_it_runs_as_a_module_of_a_checkout() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "lab", "paper", "--help"]
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("usage: python -m lab paper ")


@pytest.mark.parametrize(
    ("typed", "now"),
    [
        (["benchmark"], "python -m lab bench"),
        (["benchmark", "every_layer", "--threads", "1"], "python -m lab bench every_layer --threads 1"),
        (["reproduce", "table1", "--output_dir", "a b"], "python -m lab paper table1 --output_dir 'a b'"),
    ],
)
def test_who_types_an_old_command_is_told_the_new_one(
    typed: list[str], now: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fourierft(typed) == 2
    assert capsys.readouterr().err == (
        f"fourierft: error: `fourierft {typed[0]}` has moved; use `{now}` in a checkout of the repository\n"
    )
    assert typed[0] not in PACKAGED

"""`fourierft compare` from the outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.cli.main import main


@pytest.fixture
def task(write_task: Callable[..., Path]) -> str:
    """A task file of one step, three methods."""
    return str(write_task("films", max_steps=1, methods=["head", "lora:8", "fourierft:20"]))


def test_runs_are_told_then_summed_up(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", task, "--output_dir", str(out), "--plot"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("run 3 of 3") < printed.index("best rate") < printed.index("summary.md")
    assert {path.name for path in out.iterdir()} >= {"runs.jsonl", "summary.md", "score-parameters.png"}
    assert main(["compare", task, "--output_dir", str(out)]) == 0
    assert "3 runs, 0 to do now" in capsys.readouterr().out


def test_list_and_dry_run_leave_nothing(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", task, "--output_dir", str(out), "--list", "--seeds", "4", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert main(["compare", task, "--output_dir", str(out), "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["FourierFT", "n=20", "80", "66", "0.001"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "lorra:8"], "method lorra:8 is unknown; did you mean lora?"),
        (["--learning_rates", "0"], "learning_rates=[0.0] is not a list of positive numbers"),
        (["--seeds", "-1"], "seeds=[-1] is not a list of whole numbers"),
        (["--max_runs", "-1"], "--max_runs -1 is negative"),
        (["--output_dir", __file__], "test_compare.py is a file, not a folder; choose another name"),
    ],
)
def test_wrong_grid_is_one_line(task: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", task, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_such_task_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml can't be read (No such file or directory)" in capsys.readouterr().err

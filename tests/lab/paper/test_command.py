"""`python -m lab paper` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.__main__ import main


def test_counts_go_to_the_output_folder_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["paper", "table1", "--model", "roberta-base", "--output_dir", str(tmp_path)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"written to {tmp_path / 'table1.md'}\n"
    lines = (tmp_path / "table1.jsonl").read_text()
    assert main(arguments) == 0
    assert (tmp_path / "table1.jsonl").read_text() == lines
    assert '"command": "python -m lab paper table1 --model roberta-base"' in lines


def test_list_prints_the_runs_and_does_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["paper", "fig5", "--stand-in", "--list", "--output_dir", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "1  movies: FourierFT n=1000, learning rate 0.01, seed 0"
    assert len(lines) == 6
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel1"], "tabel1 is none of the paper's tables and figures that can be run; did you mean table1?"),
        (["table2", "--task", "mnli2"], "--task mnli2 is unknown to table2"),
        (["table2", "--model", "roberta-bas"], "--model roberta-bas is unknown to table2; did you mean roberta-base?"),
        (["table2", "--seeds", "-1"], "seeds=[-1] is not a list of whole numbers of at least 0"),
        (["table2", "--max_runs", "-1"], "--max_runs -1 is negative"),
        (["table2", "--override", "bf16"], "--override bf16 has no value; write bf16=VALUE"),
        (["table2", "--override", "bf17=true"], "--override has the unknown key bf17; did you mean bf16?"),
        (["fig7", "--stand-in"], "fig7 has no stand-in"),
        (["table1", "--output_dir", __file__], "test_command.py is a file, not a folder; choose another name"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

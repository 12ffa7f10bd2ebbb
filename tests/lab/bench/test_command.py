"""`python -m lab bench`: arguments, the checkout, messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.__main__ import main


def test_list_prints_the_suites(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed][:3] == ["every_layer", "every_decoding", "training_step"]


def test_smoke_run_prints_rows_and_keeps_none(capsys: pytest.CaptureFixture[str]):
    arguments = ["--grid", "smoke", "--rounds", "1", "--threads", "1", "--contenders", "ours", "--match", "64x64, 1 "]
    assert main(["bench", "layer", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "frozen base" in printed
    assert printed.endswith("4 rows, none kept\n")


def test_results_go_to_the_output_folder(tmp_path: Path):
    arguments = ["--grid", "smoke", "--rounds", "1", "--threads", "1", "--contenders", "ours", "--match", "64x64, 1 "]
    assert main(["bench", "layer", *arguments, "--output", str(tmp_path / "results")]) == 0
    assert len((tmp_path / "results" / "layer.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "3"], "--rounds 3 is too few for percentiles; use at least 5"),
        (["--rounds", "0", "--grid", "smoke"], "--rounds 0"),
        (["--threads", "0"], "--threads 0 is not positive"),
        (["nothing"], "unknown suite nothing"),
        (["--page", "--output", "no/such/folder"], "no results in no/such/folder"),
        (["layer", "--output", __file__], "test_command.py is a file, not a folder; choose another name"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("python -m lab: error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err

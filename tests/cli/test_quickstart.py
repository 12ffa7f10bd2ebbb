"""`fourierft quickstart` from the outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.cli.main import main
from fourierft.errors import DataError
from fourierft.training import page, quickstart
from fourierft.training.trainer import TrainingInterrupted


def test_help_says_what_is_downloaded_and_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["quickstart", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("84 MB", "FOURIERFT_CACHE", "index.html", "--fresh"))


def test_table_and_page_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = quickstart.Outcome(
        quickstart.CONTENDERS[3],
        tmp_path / "fourierft",
        {
            "eval": {"accuracy": 0.8125},
            "parameters": {"adapter": 12000, "head": 770},
            "bytes": {"file": 52984},
            "train": {"seconds_per_step": 0.25},
        },
        [(1, 0.8125)],
    )
    monkeypatch.setattr(quickstart, "run_quickstart", lambda directory, fresh: [outcome])
    monkeypatch.setattr(quickstart, "predict_examples", lambda folder: [{"folder": folder}])
    monkeypatch.setattr(page, "write_page", lambda outcomes, examples, directory: directory / "index.html")
    monkeypatch.setattr(page, "next_commands", lambda ours, directory: [("Score it", "fourierft evaluate it")])
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    assert main(["quickstart", "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"downloads 86.0 MB (model and data) into {tmp_path / 'cache'}." in lines[1]
    assert lines[4].split() == ["FourierFT", "n=340", "0.812", "12,000", "770", "53.0", "kB", "0.250"]
    assert lines[6].endswith(f"look at {tmp_path / 'index.html'}, then continue:")
    assert lines[-2:] == ["  # Score it", "  fourierft evaluate it"]


def test_no_network_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise DataError("could not download")

    monkeypatch.setattr(quickstart, "run_quickstart", fail)
    assert main(["quickstart", "--output_dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "fourierft: error: could not download\n"


def test_interruption_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise TrainingInterrupted(3, 10, "quickstart/lora/checkpoint-3")

    monkeypatch.setattr(quickstart, "run_quickstart", interrupt)
    assert main(["quickstart", "--output_dir", str(tmp_path)]) == 130
    assert "the same command, without --fresh, goes on from there" in capsys.readouterr().err


def test_directory_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["quickstart", "--output_dir", str(tmp_path)]) == 2
    assert "has no complete quickstart.json" in capsys.readouterr().err

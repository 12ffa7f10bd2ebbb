"""`fourierft evaluate` from the outside: the table, the files, the errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourierft.cli.main import main


@pytest.fixture
def trained(tmp_path: Path, tiny_bert: Path) -> Path:
    """A directory with data.csv, 16 rows of two classes, and out, a training on them."""
    rows = [f"{'good' if i % 2 else 'bad'} film,{'pos' if i % 2 else 'neg'}" for i in range(16)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    status = main(
        [
            *("train", "--model_name_or_path", str(tiny_bert), "--train_file", str(tmp_path / "data.csv")),
            *("--output_dir", str(tmp_path / "out"), "--method", "full", "--learning_rate", "1e-2"),
            *("--max_steps", "12", "--use_cpu"),
        ]
    )
    assert status == 0
    return tmp_path


def test_table_and_files_agree(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    files = ["--output", str(trained / "m.json"), "--predictions", str(trained / "p.jsonl")]
    assert main(["evaluate", str(trained / "out"), "--test_file", str(trained / "data.csv"), "--use_cpu", *files]) == 0
    metrics = json.loads((trained / "m.json").read_text())
    predictions = [json.loads(line) for line in (trained / "p.jsonl").read_text().splitlines()]
    assert len(predictions) == metrics["rows"] == 16
    assert sum(p["prediction"] == p["label"] for p in predictions) / 16 == metrics["accuracy"]
    table = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert table["accuracy"] == f"{metrics['accuracy']:.4f}"


def test_result_file_that_exists_is_left_alone(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "m.json").write_text("mine")
    command = ["evaluate", str(trained / "out"), "--test_file", str(trained / "data.csv"), "--use_cpu"]
    assert main([*command, "--output", str(trained / "m.json")]) == 2
    assert "m.json exists; choose another name, or give --overwrite" in capsys.readouterr().err
    assert (trained / "m.json").read_text() == "mine"
    assert main([*command, "--output", str(trained / "m.json"), "--overwrite"]) == 0
    assert "accuracy" in (trained / "m.json").read_text()


def test_directory_without_a_training_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.csv").write_text("text,label\ngood,pos\n")
    assert main(["evaluate", str(tmp_path), "--test_file", str(tmp_path / "data.csv")]) == 2
    assert "fourierft: error:" in capsys.readouterr().err

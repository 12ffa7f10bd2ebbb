"""`fourierft train` from the outside: files, messages, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourierft.cli.main import main


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with train.csv, 16 rows of two classes."""
    rows = [f"{'good' if i % 2 else 'bad'} film,{'pos' if i % 2 else 'neg'}" for i in range(16)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return tmp_path


def arguments(files: Path, tiny_bert: Path, *more: str) -> list[str]:
    return [
        *("train", "--model_name_or_path", str(tiny_bert), "--train_file", str(files / "train.csv")),
        *("--output_dir", str(files / "out"), "--n_frequency", "20", "--max_steps", "2", "--use_cpu", *more),
    ]


def test_training_says_what_it_trains_and_what_came_out(
    files: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(files, tiny_bert)) == 0
    printed = capsys.readouterr().out
    before, after = printed.index("adapter          260"), printed.index("accuracy ")
    assert before < printed.index(": loss ") < after
    assert "neg, pos" in printed
    assert str(files / "out") in printed


def test_flags_win_over_the_config_file(files: Path, tiny_bert: Path) -> None:
    (files / "c.yaml").write_text("max_steps: 1\nrandom_loc_seed: 5\nn_frequency: 10\n")
    assert main(arguments(files, tiny_bert, "--config", str(files / "c.yaml"))) == 0
    metrics = json.loads((files / "out" / "metrics.json").read_text())
    assert metrics["method"]["n_frequency"] == 20
    assert metrics["method"]["random_loc_seed"] == 5
    assert metrics["train"]["steps"] == 2


def test_wrong_input_is_one_line_on_stderr_and_status_two(
    files: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(files, tiny_bert, "--label_column", "mood")) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == (
        "fourierft: error: there is no column mood; the data has the columns text, label"
    )
    assert not (files / "out").exists()


def test_a_training_that_diverged_says_so(files: Path, tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(files, tiny_bert, "--learning_rate", "1e30", "--max_grad_norm", "0")) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("fourierft: the training diverged: what it wrote holds")
    assert json.loads((files / "out" / "metrics.json").read_text())["diverged"] is True
    assert main(["evaluate", str(files / "out"), "--test_file", str(files / "train.csv")]) == 2
    assert "holds NaN or infinity" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert "--method METHOD" in text
    assert "(default: fourierft)" in " ".join(text.split())
    assert "--config FILE" in text
    assert "--train-file" not in text

"""`fourierft evaluate` from the outside: the table, the files, the errors."""

from __future__ import annotations

import json
import sqlite3
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
    assert table.keys() == metrics.keys() == {"loss", "accuracy", "f1", "f1_macro", "matthews", "rows"}


def test_rows_without_labels_are_predicted(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "new.csv").write_text("text\ngood film\nbad film\n")
    command = ["evaluate", str(trained / "out"), "--test_file", str(trained / "new.csv"), "--use_cpu"]
    assert main(command) == 2
    assert "no column label" in capsys.readouterr().err
    assert main([*command, "--predictions", str(trained / "new.jsonl")]) == 0
    assert capsys.readouterr().out.split() == ["rows", "2"]
    lines = [json.loads(line) for line in (trained / "new.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [["text", "prediction", "probability"]] * 2


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


@pytest.mark.parametrize("command", ["evaluate", "inspect", "merge", "generate"])
def test_an_adapter_in_a_store_is_told_from_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    sqlite3.connect(tmp_path / "s.db").execute("CREATE TABLE a (b)").connection.close()
    more = {
        "evaluate": ["--test_file", str(tmp_path / "data.csv")],
        "inspect": [],
        "merge": [str(tmp_path / "merged")],
        "generate": ["--prompt", "hello"],
    }
    assert main([command, f"{tmp_path}/s.db:acme/one", *more[command]]) == 2
    told = capsys.readouterr().err
    assert f"write it to one with `fourierft store get {tmp_path}/s.db acme/one DIR`, then give DIR" in told
    assert "Traceback" not in told


@pytest.fixture
def answering(tmp_path: Path, tiny_llama: Path) -> list[str]:
    """The command that scores a language model, trained two steps on prompts with two references each."""
    rows = [
        {"mr": f"the {noun}", "ref": f"a {noun} is {word}"} for noun in ("film", "book") for word in ("good", "bad")
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    command = ["train", "--model_name_or_path", str(tiny_llama), "--train_file", str(tmp_path / "rows.json")]
    command += ["--n_frequency", "50", "--max_steps", "2", "--use_cpu"]
    assert main([*command, "--output_dir", str(tmp_path / "out")]) == 0
    command = ["evaluate", str(tmp_path / "out"), "--test_file", str(tmp_path / "rows.json"), "--use_cpu"]
    return [*command, "--num_beams", "2", "--max_new_tokens", "4"]


def test_texts_are_generated_and_scored(
    answering: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("fourierft.training.generation.wordnet.DEBIAN", tmp_path / "none")
    capsys.readouterr()
    assert main([*answering, "--generate", str(tmp_path / "texts")]) == 0
    said = capsys.readouterr()
    assert "METEOR counted exact words and stems but no synonyms, because WordNet is missing" in said.err
    metrics = json.loads((tmp_path / "texts" / "metrics.json").read_text())
    table = dict(line.split() for line in said.out.splitlines())
    assert (table["items"], table["references"]) == ("2", "4")
    assert {name: table[name] for name in ("bleu", "cider")} == {n: f"{metrics[n]:.4f}" for n in ("bleu", "cider")}
    assert metrics["decoding"] == (
        {"num_beams": 2, "length_penalty": 0.8, "no_repeat_ngram_size": 4, "max_new_tokens": 4}
    )
    assert main([*answering, "--generate", str(tmp_path / "texts"), "--without_adapter"]) == 2
    assert "holds texts of another weights; choose another folder, or give --overwrite" in capsys.readouterr().err


def test_texts_have_their_own_files(answering: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*answering, "--generate", str(tmp_path / "texts"), "--output", str(tmp_path / "m.json")]
    assert main(command) == 2
    assert (
        "already writes predictions and metrics to that folder; leave out --output and --predictions"
        in capsys.readouterr().err
    )

"""`fourierft fleet` from the outside: what it prints, its statuses, its one-line errors."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest

from fourierft.cli.main import main
from fourierft.store import AdapterStore
from fourierft.training.fleet import demo
from fourierft.training.fleet.trainer import FleetTrainer
from fourierft.training.trainer import TrainingInterrupted

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def words(tiny_bert: Path, tmp_path: Path) -> list[str]:
    """A training of two customers in 12 steps."""
    with (tmp_path / "data.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(["customer", "text", "label"])
        for k in range(24):
            writer.writerow([f"c{k % 2}", f"the film is {'good' if k % 4 < 2 else 'bad'}", k % 4 < 2])
    named = {"model_name_or_path": tiny_bert, "train_file": tmp_path / "data.csv", "adapter_column": "customer"}
    named |= {"store": tmp_path / "fleet.db", "n_frequency": 20, "epochs": 2, "validation_fraction": 0.25}
    flags = [word for name, value in named.items() for word in (f"--{name}", str(value))]
    return ["fleet", "train", *flags, "--target_modules", "query", "value"]


def test_training_says_how_many_how_well_and_where(words, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "adapters            2, of 146 numbers each"
    assert lines[2].startswith("accuracy, held out  ")
    assert lines[3] == f"written to          {tmp_path}/fleet.db"
    with AdapterStore(tmp_path / "fleet.db") as store:
        assert list(store.names()) == ["c0", "c1"]
        assert set(store.get("c0").metrics) >= {"accuracy", "train_loss", "steps"}


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_dtype_is_that_of_the_store_and_not_of_the_base(words, tmp_path: Path, dtype: str) -> None:
    assert main([*words, "--epochs", "1", "--dtype", dtype]) == 0
    with AdapterStore(tmp_path / "fleet.db") as store:
        adapter = store.get("c0")
    assert adapter.dtype == dtype
    assert json.loads(adapter.record or "{}")["dtype"] == "float32"


def test_an_exported_adapter_can_be_evaluated(words, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert main(["store", "get", str(tmp_path / "fleet.db"), "c0", str(tmp_path / "c0")]) == 0
    assert main(["evaluate", str(tmp_path / "c0"), "--test_file", str(tmp_path / "data.csv")]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_after_ctrl_c_the_command_to_go_on_is_printed_and_works(
    words, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FleetTrainer.step
    monkeypatch.setattr(FleetTrainer, "step", lambda self: (os.kill(os.getpid(), signal.SIGINT), real(self))[1])
    assert main(words) == 130
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("fourierft: interrupted at step 2 of ")
    assert " --target_modules query value " in error
    assert error.endswith(" --resume")
    monkeypatch.setattr(FleetTrainer, "step", real)
    assert main([*words, "--resume"]) == 0
    assert not (tmp_path / "fleet.db.training").exists()


def test_errors_are_one_line(words, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--adapter_column", "tenant"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "fourierft: error: there is no column tenant; the data has the columns customer, text, label"


def test_the_demo_prints_the_answers_and_says_where_all_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"prediction": "good", "probability": 0.9}
    results = {"model": "base", "adapters": {name: {"accuracy": 0.8125} for name in demo.CRITICS}}
    monkeypatch.setattr(demo, "run_demo", lambda directory, fresh: results)
    monkeypatch.setattr(demo, "ask", lambda store, model: {name: [answer] * 4 for name in demo.CRITICS})
    monkeypatch.setattr(demo, "draw_map", lambda directory: directory / "map.png")
    assert main(["fleet", "demo", "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "one batch of 48 rows, a question and a critic each:"
    assert "movies-harsh         0.812  good 0.90  good 0.90  good 0.90  good 0.90" in lines
    assert f"{tmp_path}/map.png is a map of the critics" in lines[-2]
    assert lines[-1] == f"  fourierft inspect {tmp_path}/fleet.db --near movies-harsh"


def test_an_interrupted_demo_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise TrainingInterrupted(3, 10, "fleet-demo/fleet.db.training/checkpoint-3")

    monkeypatch.setattr(demo, "run_demo", interrupt)
    assert main(["fleet", "demo", "--output_dir", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("; the same command, without --fresh, goes on from there\n")


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fleet", "train", "--help"])
    assert exit_.value.code == 0
    assert "--adapter_column customer --store fleet.db" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main(["fleet", "demo", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("84 MB", "FOURIERFT_CACHE", "./fleet-demo", "--fresh"))

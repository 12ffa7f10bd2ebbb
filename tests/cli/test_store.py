"""`fourierft store` from the outside: what it prints, its statuses, its one-line errors."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from fourierft.cli.main import main


@pytest.fixture
def adapter(tiny_bert: Path, tmp_path: Path) -> Path:
    """A stock PEFT adapter of 40 normal coefficients on query and value, 2 layers of 32 x 32 each."""
    config = peft.FourierFTConfig(n_frequency=40, target_modules=["query", "value"])
    peft.PeftModel(AutoModel.from_pretrained(str(tiny_bert)), config).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs an action on the store of the test and returns what it prints."""

    def run(action: str, *arguments: str | Path, status: int = 0) -> str:
        capsys.readouterr()
        assert main(["store", action, str(tmp_path / "fleet.db"), *map(str, arguments)]) == status
        out, error = capsys.readouterr()
        return error if status == 2 else out

    return run


def test_adapter_goes_in_and_comes_out(call: Callable[..., str], adapter: Path, tmp_path: Path) -> None:
    added = call("add", "reviews", adapter)
    assert added == "added 'reviews' version 1: 4 layers, 160 coefficients as float32\n"
    assert call("get", "reviews", tmp_path / "out") == f"wrote {tmp_path}/out: 'reviews' version 1, kept as float32\n"
    before, after = (load_file(path / "adapter_model.safetensors") for path in (adapter, tmp_path / "out"))
    assert all(torch.equal(before[key], after[key]) for key in before.keys() | after.keys())


def test_second_one_of_a_name_is_said_to_be_a_new_version(call: Callable[..., str], adapter: Path) -> None:
    call("add", "reviews", adapter)
    assert "version 2, beside 1 older version:" in call("add", "reviews", adapter)
    assert "already has an adapter 'reviews', version 2" in call("add", "reviews", adapter, "--new", status=2)
    assert call("rm", "reviews", "--version", "1") == "removed 1 version of 'reviews'\n"
    assert call("rm", "reviews") == "removed 1 version of 'reviews'\n"


def test_alias_moves_and_is_listed(call: Callable[..., str], adapter: Path, tmp_path: Path) -> None:
    for _ in range(2):
        call("add", "reviews", adapter)
    assert call("alias", "reviews", "live") == "'reviews@live' is version 2\n"
    assert call("alias", "reviews", "live", "--version", "1") == "'reviews@live' is version 1, before 2\n"
    assert call("alias", "reviews").splitlines()[-1].split() == ["reviews@live", "1"]
    out = tmp_path / "out"
    assert call("get", "reviews@live", out) == f"wrote {out}: 'reviews' version 1, kept as float32\n"
    assert "'reviews' version 1 has the alias reviews@live" in call("rm", "reviews", "--version", "1", status=2)
    assert call("alias", "reviews", "live", "--remove") == "removed 'reviews@live'\n"
    assert "'reviews' has no alias 'live'" in call("get", "reviews@live", tmp_path / "more", status=2)
    assert "--version needs an alias" in call("alias", "reviews", "--version", "1", status=2)
    assert "--remove needs an alias" in call("alias", "reviews", "--remove", status=2)


def test_backup_is_made_and_restored(call: Callable[..., str], adapter: Path, tmp_path: Path) -> None:
    call("add", "reviews", adapter)
    copy = tmp_path / "copy.db"
    assert call("backup", copy) == f"wrote {copy}: 1 adapters, no damaged\n"
    assert "exists; name another file" in call("backup", copy, status=2)
    call("add", "tweets", adapter)
    assert call("rm", "reviews", "--erase") == "erased 1 version of 'reviews'\n"
    assert call("rm", "reviews", "--erase").startswith("the store holds no 'reviews': nothing was removed")
    assert call("restore", copy).endswith("copy.db: 1 adapters, 1 versions\n")
    assert call("list", "--json").count('"reviews"') == 1
    (tmp_path / "fleet.db").unlink()
    call("restore", copy)
    assert call("verify") == "1 adapters, no faults\n"


def test_int8_says_what_it_loses(call: Callable[..., str], adapter: Path) -> None:
    out = call("add", "reviews", adapter, "--dtype", "int8")
    assert "note: int8 loses 0." in out
    assert "% of dW in the median layer" in out


def test_list_is_a_table_or_json(call: Callable[..., str], adapter: Path) -> None:
    (adapter / "metrics.json").write_text('{"accuracy": 0.825, "rows": 10}')
    call("add", "reviews", adapter)
    call("add", "tweets\n", adapter, "--dtype", "int8")
    table = call("list").splitlines()
    assert table[0].split() == ["name", "version", "dtype", "n", "bytes", "created", "metrics"]
    assert table[2].split()[:5] == ["reviews", "1", "float32", "160", "640"]
    assert table[2].endswith("accuracy 0.825")
    assert table[3].startswith("tweets\\n")
    (line,) = call("list", "--prefix", "tw", "--json").splitlines()
    assert json.loads(line)["name"] == "tweets\n"


def test_list_and_stats_show_what_a_training_reached(call: Callable[..., str], adapter: Path) -> None:
    scores = {"loss": 0.5, "accuracy": 0.75, "f1": 0.625, "runtime": 3.0, "samples_per_second": 9.0}
    metrics: dict[str, Any] = {"train": {"loss": 0.25, "steps": 8}, "eval": scores, "main_metric": "f1", "seed": 1}
    (adapter / "metrics.json").write_text(json.dumps(metrics))
    call("add", "reviews", adapter)
    (adapter / "metrics.json").write_text(json.dumps({**metrics, "eval": {"f1": 0.875}, "test": {"f1": 0.5}}))
    call("add", "tweets", adapter)
    (adapter / "metrics.json").write_text(json.dumps({"eval": "none", "test": [1], "blend": {"a": 0.5}}))
    call("add", "unscored", adapter)
    table = call("list").splitlines()
    assert table[2].endswith("f1 0.625, loss 0.5, accuracy 0.75")
    assert table[3].endswith("f1 0.875, f1 (test) 0.5")
    assert table[4].endswith("Z")
    shown = [line.split() for line in call("stats").splitlines()]
    start = shown.index(["score", "adapters", "least", "median", "largest"]) + 2
    assert shown[start : start + 4] == [
        ["f1", "2", "0.625", "0.75", "0.875"],
        ["loss", "1", "0.5", "0.5", "0.5"],
        ["accuracy", "1", "0.75", "0.75", "0.75"],
        ["f1", "(test)", "1", "0.5", "0.5", "0.5"],
    ]
    spread = {"adapters": 2, "least": 0.625, "median": 0.75, "largest": 0.875}
    assert json.loads(call("stats", "--json"))["scores"]["f1"] == spread


def test_verify_has_status_one_when_something_is_damaged(
    call: Callable[..., str], adapter: Path, tmp_path: Path
) -> None:
    call("add", "reviews", adapter)
    assert call("verify") == "1 adapters, no faults\n"
    connection = sqlite3.connect(tmp_path / "fleet.db")
    connection.execute("UPDATE fourierft_adapters SET coefficients = zeroblob(length(coefficients))")
    connection.commit()
    connection.close()
    assert call("verify", status=1).splitlines()[-1] == "1 adapters, 1 fault"
    assert "'reviews' version 1 is damaged" in call("get", "reviews", tmp_path / "out", status=2)
    assert not (tmp_path / "out").exists()


def test_stats_show_the_fleet(call: Callable[..., str], adapter: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        call("add", name, adapter, "--dtype", "int8" if name == "c" else "float32")
    out = call("stats", "--near", "a", "--map", tmp_path / "fleet.png")
    lines = out.splitlines()
    assert "adapters  3; versions 3: 2 in float32, 1 in int8" in lines
    assert "the same: a, b" in lines
    assert lines[-2].split() == ["b", "1.0000"]
    assert any(line.startswith("||dW|| by layer") for line in lines)
    assert (tmp_path / "fleet.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(call("stats", "--near", "a", "--json"))
    assert report["adapters"] == 3
    assert report["near"][0]["name"] == "b"


def test_a_folder_goes_in_and_all_come_out(call: Callable[..., str], adapter: Path, tmp_path: Path) -> None:
    for name in ("a", "team/b"):
        shutil.copytree(adapter, tmp_path / "runs" / name)
    assert call("import", tmp_path / "runs") == "added 2, skipped 0 that exist, 0 failed; the store has 2\n"
    (tmp_path / "runs/c").mkdir()
    (tmp_path / "runs/c/adapter_config.json").write_text("{}")
    assert call("import", tmp_path / "runs", status=1) == "added 0, skipped 2 that exist, 1 failed; the store has 2\n"
    assert call("export", tmp_path / "out") == f"wrote 2 adapters into {tmp_path}/out\n"
    before, after = (load_file(path / "adapter_model.safetensors") for path in (adapter, tmp_path / "out/team%2Fb"))
    assert all(torch.equal(before[key], after[key]) for key in before.keys() | after.keys())


@pytest.mark.parametrize("action", ["list", "verify", "stats"])
def test_store_that_is_not_there_is_named(call: Callable[..., str], tmp_path: Path, action: str) -> None:
    error = call(action, status=2)
    assert error.startswith(f"fourierft: error: there is no store {tmp_path}/fleet.db;")
    assert error.count("\n") == 1


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["store", "--help"])
    assert exit_.value.code == 0
    assert "fourierft store stats fleet.db --near reviews --map fleet.png" in capsys.readouterr().out

"""`fourierft inspect` from the outside: the table, the JSON, the picture, the errors."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
from transformers import AutoModel

from fourierft.cli.main import main


@pytest.fixture
def adapter(tiny_bert: Path, tmp_path: Path) -> Path:
    """A stock PEFT adapter of 40 normal coefficients on query and value, 2 layers of 32 x 32 each."""
    config = peft.FourierFTConfig(n_frequency=40, target_modules=["query", "value"])
    peft.PeftModel(AutoModel.from_pretrained(str(tiny_bert)), config).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_table_has_a_row_a_layer_and_totals(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(adapter)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("encoder.layer")]
    assert [row[0] for row in rows[:2]] == [f"encoder.layer.0.attention.self.{name}" for name in ("query", "value")]
    assert all(row[1:6] == ["32", "x", "32", "40", "160"] and row[-1].endswith("%") for row in rows)
    assert "4 layers: 160 coefficients, 640 B, instead of 4,096 entries of dW (26 times as many)" in lines


def test_json_is_all_that_is_printed(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(adapter), "--json", "--layer", "0.attention.self.query"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["totals"]["layers"] == 1
    assert report["layers"][0]["spectral_norm"] <= report["layers"][0]["frobenius_norm"]


def test_picture_is_written_beside_the_table(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spectrum.png"
    assert main(["inspect", str(adapter), "--layer", "1.attention.self.value", "--picture", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    out, error = capsys.readouterr()
    assert "1 layer: 40 coefficients" in out
    assert error == f"wrote {file}\n"


def test_without_its_base_the_file_is_still_listed(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert main(["inspect", str(adapter)]) == 0
    out = capsys.readouterr().out
    assert "4 layers: 160 coefficients, 640 B\n" in out
    assert "no shapes and no norms of dW: the base model" in out


def test_a_store_is_shown_as_stats_show_it(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, file = str(tmp_path / "fleet.db"), tmp_path / "map.png"
    for name in ("a", "b"):
        assert main(["store", "add", store, name, str(adapter)]) == 0
    capsys.readouterr()
    assert main(["store", "stats", store, "--near", "a"]) == 0
    expected = capsys.readouterr().out
    assert main(["inspect", store, "--near", "a", "--picture", str(file)]) == 0
    out, error = capsys.readouterr()
    assert out == expected
    assert "the same: a, b" in out
    assert error == f"wrote {file}\n"
    assert file.read_bytes().startswith(b"\x89PNG")
    assert main(["inspect", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["adapters"] == 2
    assert main(["inspect", store, "--layer", "query"]) == 2
    assert "--layer is for a single adapter, but" in capsys.readouterr().err
    assert main(["inspect", str(adapter / "adapter_model.safetensors")]) == 2
    assert "is not an adapter store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--near", "a"], "--near compares the adapters of a store"),
        (["--layer", "keys"], "has no layer keys"),
        (["--picture", "x.docx"], "known picture format"),
        (["--base", "gone"], "gone"),
    ],
)
def test_wrong_input_is_one_sentence(
    adapter: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(adapter), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fourierft: error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_what_is_not_there_may_have_been_meant_as_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "gone.db")]) == 2
    assert (
        "gone.db does not exist; give the folder or hub id of an adapter, or the file of a store"
        in capsys.readouterr().err
    )

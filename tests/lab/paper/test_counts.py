"""Table 1: what is counted on the models is what the paper's formulas say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import transformers

import fourierft
from fourierft.training.output import read_json_lines
from lab.paper import counts
from lab.paper.published import read_paper

RESULTS = Path(counts.__file__).parent / "results" / "table1.jsonl"


@pytest.mark.parametrize("name", list(counts.MODELS))
def test_counts_on_the_model_are_those_of_the_paper(name: str) -> None:
    table = read_paper()["table1"][name]
    for method in ("lora", "fourierft"):
        size, expected = next(iter(table[method].items()))
        counted = counts.count(name, method, int(size))
        fused = 2 if name.startswith("gpt2") else 1
        assert counted["parameters"] == expected
        assert counted["layers"] * fused == table["layers"]
        assert counted["bytes"] == 4 * expected


def test_every_number_of_the_table_was_counted_and_is_right() -> None:
    rows = read_json_lines(RESULTS)
    counted = {(row["model"], row["method"], row["size"]): row["parameters"] for row in rows}
    assert counted == {cell[:3]: cell[3] for cell in counts.cells(list(counts.MODELS))}


def test_bytes_of_the_file_are_those_of_a_saved_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    monkeypatch.setitem(counts.MODELS, "tiny", counts.Shape("BertConfig", sizes, ("query", "value")))
    fourierft.enable()
    config = fourierft.FourierFTConfig(n_frequency=30, target_modules=["query", "value"])
    model = transformers.BertModel(transformers.BertConfig(**sizes))
    peft.get_peft_model(model, config).save_pretrained(str(tmp_path))
    assert counts.count("tiny", "fourierft", 30)["file"] == (tmp_path / "adapter_model.safetensors").stat().st_size


def test_page_shows_what_is_printed_beside_what_is_counted(tmp_path: Path) -> None:
    text = "\n".join(counts.page(read_json_lines(RESULTS), tmp_path))
    assert "32 of 32 counts" in text
    assert "| gpt2-medium | LoRA r=4 | 350K | 393,216 | 393,216 | 1,572,864 B | 1.34MB |" in text

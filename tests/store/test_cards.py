"""The card of an adapter that leaves a store: of the training that left its record, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from fourierft.format.layout import Layout
from fourierft.store import AdapterStore

RECORD: dict[str, Any] = {
    "base_model": "someone/base", "revision": "main", "method": "fourierft", "is_adapter": True, "data": "rows.csv",
    "heads": [], "dtype": "float32", "trust_remote_code": False, "settings": {"n_frequency": 5}, "task": "regression",
    "labels": [], "text_columns": ["text"], "label_column": "stars",
    "loading": {"model_class": "AutoModel", "processor_class": "AutoTokenizer", "pipeline_tag": "text-classification",
                "options": {}},
}  # fmt: skip


def export(layout: Layout, folder: Path, record: str | None) -> Path:
    with AdapterStore(folder / "fleet.db") as store:
        row = torch.randn(layout.total)
        store.put("ann", layout, row, dtype="bfloat16", metrics={"pearson": 0.25, "steps": 3}, record=record)
        store.export("ann", folder / "ann")
    return folder / "ann" / "README.md"


def test_the_card_tells_of_the_adapter(layout: Layout, tmp_path: Path) -> None:
    card = ModelCard.load(export(layout, tmp_path, json.dumps(RECORD)))
    assert (card.data.base_model, card.data.pipeline_tag) == ("someone/base", "text-classification")
    assert card.data.eval_results[0].metric_value == 0.25
    assert "# ann: fourierft on base" in card.text
    assert "Regression of `text` by `stars`." in card.text
    assert f"- Numbers: {layout.total:,} coefficients, 0 in heads" in card.text
    assert "- Kept as: bfloat16, version 1" in card.text


@pytest.mark.parametrize(
    "record", [None, "{}", '{"task": 1}', json.dumps({**RECORD, "loading": 7}), json.dumps({**RECORD, "settings": []})]
)
def test_a_record_of_something_else_is_written_without_a_card(
    layout: Layout, tmp_path: Path, record: str | None
) -> None:
    card = export(layout, tmp_path, record)
    assert not card.exists()
    assert (card.parent / "adapter_model.safetensors").is_file()
    assert (card.parent / "fourierft.json").exists() == (record is not None)

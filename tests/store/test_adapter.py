"""An adapter comes out as it went in: byte for byte in float32, and with its loss measured in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from fourierft import uniform_basis
from fourierft.format.checkpoint import read_checkpoint
from fourierft.spectral.reference import reference_delta_weight
from fourierft.store import AdapterStore, measure_loss

TOKENS = torch.tensor([[2, 5, 8, 13, 3], [2, 4, 9, 17, 3]])


def test_float32_comes_out_byte_for_byte(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    assert store.add("reviews", adapter) == 1
    store.export("reviews", tmp_path / "out")
    before, after = (
        load_file(adapter / "adapter_model.safetensors"),
        load_file(tmp_path / "out/adapter_model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all(before[key].dtype == after[key].dtype for key in before)
    assert all(before[key].numpy().tobytes() == after[key].numpy().tobytes() for key in before)


def test_exported_adapter_answers_the_same_in_stock_peft(
    store: AdapterStore, adapter: Path, load_base: Any, stock_logits: Any, tmp_path: Path
) -> None:
    store.add("reviews", adapter)
    store.export("reviews", tmp_path / "out")
    model = peft.PeftModel.from_pretrained(load_base(), tmp_path / "out").eval()
    with torch.inference_mode():
        assert torch.equal(model(TOKENS).logits, stock_logits(TOKENS))
    assert peft.PeftConfig.from_pretrained(str(tmp_path / "out")).target_modules == {"query", "value"}


def test_half_precision_checkpoint_comes_out_in_its_dtype(
    store: AdapterStore, edit_weights: Any, tmp_path: Path
) -> None:
    path = edit_weights(lambda tensors: tensors.update({key: t.bfloat16() for key, t in tensors.items()}))
    for dtype in ("float32", "bfloat16"):
        store.add("half", path, dtype)
        store.export("half", tmp_path / dtype)
        before, after = (
            load_file(path / "adapter_model.safetensors"),
            load_file(tmp_path / dtype / "adapter_model.safetensors"),
        )
        assert all(torch.equal(before[key], after[key]) and after[key].dtype == torch.bfloat16 for key in before)


def test_int8_loses_what_the_cosine_sum_says(store: AdapterStore, adapter: Path) -> None:
    store.add("small", adapter, "int8")
    kept, checkpoint = store.get("small"), read_checkpoint(adapter)
    loss = measure_loss(checkpoint, kept)
    for name, coefficients in checkpoint.coefficients.items():
        unit = coefficients.abs().max() / 127
        by_hand = (coefficients / unit).round() * unit
        torch.testing.assert_close(kept.coefficients[name], by_hand, rtol=1e-6, atol=0)
        entries = uniform_basis(32, 32, 40, 5).entries
        exact = reference_delta_weight(coefficients, entries, 32, 32, 25.0)
        lost = reference_delta_weight(by_hand, entries, 32, 32, 25.0) - exact
        assert loss.layers[name] == pytest.approx(float(lost.norm() / exact.norm()), rel=1e-4)
    assert 0 < max(loss.layers.values()) < 0.02
    assert f"{max(loss.layers.values()):.2%} in the worst" in loss.describe("int8")


def test_float32_loses_nothing(store: AdapterStore, adapter: Path) -> None:
    store.add("whole", adapter)
    loss = measure_loss(read_checkpoint(adapter), store.get("whole"))
    assert set(loss.layers.values()) == {0.0}
    assert loss.describe("float32") == ""


def test_int8_scores_as_float32_does(store: AdapterStore, adapter: Path, load_base: Any, tmp_path: Path) -> None:
    tokens = torch.randint(4, 24, (400, 8))
    classes = {}
    for dtype in ("float32", "int8"):
        store.add("scored", adapter, dtype)
        store.export("scored", tmp_path / dtype)
        with torch.inference_mode():
            classes[dtype] = (
                peft.PeftModel.from_pretrained(load_base(), tmp_path / dtype).eval()(tokens).logits.argmax(1)
            )
    assert len(classes["float32"].unique()) > 1
    assert float((classes["float32"] == classes["int8"]).float().mean()) >= 0.98


def test_folder_with_something_in_it_is_left_alone(store: AdapterStore, adapter: Path) -> None:
    store.add("a", adapter)
    before = sorted(path.read_bytes() for path in adapter.iterdir())
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        store.export("a", adapter)
    assert sorted(path.read_bytes() for path in adapter.iterdir()) == before

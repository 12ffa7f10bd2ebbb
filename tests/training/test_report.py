"""Tables, sizes and pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fourierft.errors import MissingExtraError
from fourierft.training.families.classes import Classification
from fourierft.training.report import (
    draw_curve,
    require_plotting,
    without_nan,
    write_model_card,
)


def test_nan_becomes_null() -> None:
    assert without_nan({"a": {"b": float("nan"), "c": 1.0}}) == {"a": {"b": None, "c": 1.0}}


def test_curve_is_drawn_even_of_an_empty_history(tmp_path: Path) -> None:
    draw_curve([], "accuracy", "nothing", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fourierft\[train\]'"):
        require_plotting()


@pytest.mark.parametrize(
    ("method", "is_adapter"), [("fourierft", True), ("lora", True), ("head", False), ("full", False)]
)
def test_model_card_shows_python_that_compiles(tmp_path: Path, method: str, is_adapter: bool) -> None:
    record = {
        "base_model": "someone/base", "inputs": "text", "heads": ["classifier"],
        "method": method, "is_adapter": is_adapter, "text_columns": ["text"], "seed": 1,
        "label_column": "label", "data": "train.csv", "settings": {"n_frequency": 5},
        "revision": "v2", "dtype": "bfloat16", "trust_remote_code": False,
    }  # fmt: skip
    metrics = {
        "eval": {"accuracy": 0.875}, "test": {"accuracy": 0.5}, "saved": "last", "main_metric": "accuracy",
        "parameters": {"adapter": 5, "head": 2},
        "bytes": {"file": 100}, "rows": {"train": 9}, "train": {"steps": 3, "seconds_per_step": 0.1},
        "versions": {"torch": "2"},
    }  # fmt: skip
    write_model_card(metrics, record, Classification(("n", "y")), tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text()
    assert "base_model: someone/base" in card
    assert "| accuracy | 0.8750 | validation data, the model saved (last) |" in card
    assert "| accuracy | 0.5000 | test data, the model saved (last) |" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) <= 6
    compile(code[1], "README.md", "exec")
    assert "- Base model: `someone/base`, revision `v2`" in card
    options = 'revision="v2", num_labels=2, problem_type="single_label_classification", '
    options += 'ignore_mismatched_sizes=True, dtype="bfloat16"'
    assert (f"from_pretrained('someone/base', {options})" in code[1]) == is_adapter

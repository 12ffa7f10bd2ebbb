"""What a training says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.errors import MissingExtraError
from fourierft.training.report import draw_curve, require_plotting, without_nan


def test_nan_becomes_null() -> None:
    assert without_nan({"a": {"b": float("nan"), "c": 1.0}}) == {"a": {"b": None, "c": 1.0}}


def test_curve_is_drawn_even_of_an_empty_history(tmp_path: Path) -> None:
    draw_curve([], "accuracy", "nothing", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fourierft\[train\]'"):
        require_plotting()

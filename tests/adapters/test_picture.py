"""Pictures: what is drawn is what the adapter holds, and a file that was there is not lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.adapters.picture import centred, draw_adapter, save_picture, shorten_names
from fourierft.adapters.report import inspect_adapter
from fourierft.errors import ConfigError, MissingExtraError

QUERY = "bert.encoder.layer.0.attention.self.query"


def test_points_lie_at_the_entries_and_bars_are_the_norms(adapter: Path) -> None:
    report = inspect_adapter(adapter)
    axes = {panel.get_title(loc="left").partition(":")[0]: panel for panel in draw_adapter(report, [QUERY]).axes}
    spectrum: Any
    norms: Any
    spectrum, norms = axes[f"{QUERY}\n40 coefficients at their frequencies"], axes["size of the update, layer by layer"]
    points = {(int(x), int(y)) for x, y in spectrum.collections[0].get_offsets()}
    flat = torch.randperm(1024, generator=torch.Generator().manual_seed(5))[:40]
    assert points == {((int(k) % 32 + 16) % 32 - 16, (int(k) // 32 + 16) % 32 - 16) for k in flat}
    assert [bar.get_height() for bar in norms.patches] == [layer.relative_norm for layer in report.layers]
    assert axes["dW"].images[0].get_array().shape == (32, 32)


def test_png_is_written(adapter: Path, tmp_path: Path) -> None:
    save_picture(inspect_adapter(adapter), tmp_path / "adapter.png")
    assert (tmp_path / "adapter.png").read_bytes().startswith(b"\x89PNG")


def test_picture_without_a_base_has_bars_alone(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_config.json").write_text(
        (adapter / "adapter_config.json").read_text().replace("tiny_bert", "gone")
    )
    report = inspect_adapter(adapter)
    assert report.base_problem
    assert len(draw_adapter(report).axes) == 1
    with pytest.raises(ConfigError, match="cannot be drawn"):
        draw_adapter(report, [QUERY])


def test_unknown_format_leaves_the_file(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_text("mine")
    with pytest.raises(ConfigError, match="known picture format"):
        save_picture(inspect_adapter(adapter), tmp_path / "notes.docx")
    assert (tmp_path / "notes.docx").read_text() == "mine"


def test_missing_folder_is_named(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        save_picture(inspect_adapter(adapter), tmp_path / "gone" / "adapter.png")


def test_missing_matplotlib_names_the_extra(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"fourierft\[train\]"):
        draw_adapter(inspect_adapter(adapter))


@pytest.mark.parametrize(("size", "expected"), [(4, [0, 1, -2, -1]), (5, [0, 1, 2, -2, -1])])
def test_frequencies_are_signed_as_numpy_has_them(size: int, expected: list[int]) -> None:
    assert centred(torch.arange(size), size).tolist() == expected


def test_names_keep_only_the_parts_that_differ() -> None:
    assert shorten_names(["m.layer.0.q", "m.layer.1.q", "m.layer.1.v"]) == ["0.q", "1.q", "1.v"]
    assert shorten_names(["m.layer.0.q"]) == ["m.layer.0.q"]

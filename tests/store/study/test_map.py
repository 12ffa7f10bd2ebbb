"""The map: principal components, names where they fit, nothing written where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout
from fourierft.store.study.map import project, save_map


def test_points_are_the_principal_components() -> None:
    rows = torch.randn(30, 12) * torch.linspace(5, 0.1, 12)
    points, shares = project(rows)
    centred = (rows - rows.mean(0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    expected = left[:, :2] * values[:2]
    torch.testing.assert_close(points.double().abs(), expected.abs(), rtol=1e-3, atol=1e-3)
    assert shares == pytest.approx((values[:2] ** 2 / (values**2).sum()).tolist(), rel=1e-3)


def test_adapters_that_are_all_the_same_share_a_point() -> None:
    points, shares = project(torch.ones(3, 5))
    assert not points.any()
    assert shares == (0.0, 0.0)


def test_groups_lie_apart(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(12):
        store.put(f"{k:02d}", layout, row(100 + k % 2) + 0.1 * row(k))
    points, _ = project(store.coefficients())
    inside = max((points[k] - points[k % 2]).norm() for k in range(12))
    assert inside < 0.3 * (points[0] - points[1]).norm()


def test_picture_is_written_and_replaced(store: AdapterStore, layout: Layout, row: Any, tmp_path: Path) -> None:
    for k, name in enumerate(["plain", "$\\frac{", "line\nbreak", "x" * 300]):
        store.put(name, layout, row(k))
    (tmp_path / "fleet.png").write_text("old")
    save_map(store, tmp_path / "fleet.png", ["plain"])
    assert (tmp_path / "fleet.png").read_bytes().startswith(b"\x89PNG")


def test_one_adapter_makes_no_map(store: AdapterStore, layout: Layout, row: Any, tmp_path: Path) -> None:
    store.put("a", layout, row(0))
    with pytest.raises(StoreError, match="holds 1 adapters; a map needs at least two"):
        save_map(store, tmp_path / "fleet.png")
    assert not (tmp_path / "fleet.png").exists()

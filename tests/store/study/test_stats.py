"""A fleet in numbers: norms by the cosine sum, duplicates, neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fourierft.spectral.reference import reference_delta_weight
from fourierft.store import AdapterStore, Layout, find_nearest

SHAPES = {"a.query": (16, 12), "a.value": (12, 16), "b.query": (16, 12)}


def updates(store: AdapterStore, layout: Layout, name: str) -> list[torch.Tensor]:
    """dW of all layers by the cosine sum."""
    assert layout.bases
    found = store.get(name).coefficients
    return [reference_delta_weight(found[n], layout.bases[n].entries, *SHAPES[n], layout.scaling) for n in found]


def test_norms_are_those_of_the_cosine_sum(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(3):
        store.put(str(k), layout, (k + 1) * row(k))
    stats = store.stats()
    by_layer = torch.tensor([[float(update.norm()) for update in updates(store, layout, str(k))] for k in range(3)])
    for norms, expected in zip(stats.norms.values(), by_layer.T, strict=True):
        assert tuple(norms) == pytest.approx(expected.sort().values.tolist(), rel=1e-5)
    assert stats.kind == "||dW||"


def test_counts_and_bytes_are_those_of_the_rows(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0))
    store.put("a", layout, row(1))
    store.put("b", layout, row(2), dtype="int8")
    stats = store.stats()
    assert (stats.adapters, stats.versions, stats.dtypes) == (2, 3, {"float32": 2, "int8": 1})
    assert stats.raw_bytes == 2 * 240 + 72
    assert stats.disk_bytes > stats.raw_bytes
    assert stats.base == "org/base"


def test_duplicates_are_grouped(store: AdapterStore, make_layout: Any, row: Any) -> None:
    for name, k in (("a", 0), ("b", 1), ("c", 0), ("d", 0)):
        store.put(name, make_layout(), row(k))
    store.put("other scaling", make_layout(scaling=1.0), row(0))
    store.put("d", make_layout(), row(5))
    assert store.stats().duplicates == (("a", "c"),)


def test_neighbours_are_sorted_by_the_cosine_of_their_updates(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("target", layout, row(0))
    store.put("twice", layout, 2 * row(0))
    store.put("opposite", layout, -row(0))
    for k in range(1, 6):
        store.put(f"near {k}", layout, row(0) + k * row(k))
    near = find_nearest(store, "target", 7)
    assert near[0].name == "twice"
    assert near[0].similarity == pytest.approx(1.0)
    assert near[-1].name == "opposite"
    mine = torch.cat([update.flatten() for update in updates(store, layout, "target")])
    for name, similarity in near:
        other = torch.cat([update.flatten() for update in updates(store, layout, name)])
        expected = float(torch.nn.functional.cosine_similarity(mine, other, dim=0))
        assert similarity == pytest.approx(expected, abs=1e-5)
    assert find_nearest(store, "target", 2) == near[:2]


def test_empty_store_has_empty_stats(store: AdapterStore) -> None:
    stats = store.stats()
    assert (stats.adapters, stats.versions, stats.disk_bytes, stats.norms, stats.duplicates) == (0, 0, 0, {}, ())


def test_unknown_shapes_leave_the_norms_of_the_coefficients(store: AdapterStore, layout: Layout, row: Any) -> None:
    bare = Layout(layout.config, tuple(layer._replace(shape=None) for layer in layout.layers))
    store.put("a", bare, row(0))
    stats = store.stats()
    assert stats.kind == "||scaling * c||"
    assert stats.norms["a.query"].median == pytest.approx(8 * float(row(0)[:20].norm()), rel=1e-6)
    assert all(norms.least == norms.largest for norms in stats.norms.values())

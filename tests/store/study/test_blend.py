"""Blends: dW is the weighted sum by the cosine sum, in our numbers and in stock PEFT's model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from fourierft.errors import ConfigError, StoreError
from fourierft.spectral.reference import reference_delta_weight
from fourierft.store import Adapter, AdapterStore, blend
from fourierft.store.alignment import common_layers
from fourierft.store.study.blend import blended_layout

SHAPES = {"a.query": (16, 12), "a.value": (12, 16), "b.query": (16, 12)}


def true_update(adapter: Adapter, name: str) -> torch.Tensor:
    """dW of a layer by the cosine sum; zero where the adapter leaves the layer alone."""
    out_features, in_features = SHAPES[name]
    if name not in adapter.coefficients:
        return torch.zeros(out_features, in_features, dtype=torch.float64)
    bases = adapter.layout.bases
    assert bases
    entries = bases[name].entries
    return reference_delta_weight(adapter.coefficients[name], entries, out_features, in_features, adapter.scaling)


def test_update_of_a_blend_is_the_weighted_sum(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("a", make_layout(), row(0))
    store.put("b", make_layout(scaling=-3.0, n_frequency=7), row(1)[:21])
    fewer = {name: SHAPES[name] for name in ("a.value", "b.query")}
    store.put("c", make_layout(shapes=fewer, n_frequency=30), row(2))
    weights = {"a": 0.7, "b": 0.3, "c": -2.0}
    assert blend(store, weights, "mix") == 1
    mix = store.get("mix")
    assert mix.layout.sizes == (20, 30, 30)
    for name in SHAPES:
        expected = sum(weight * true_update(store.get(part), name) for part, weight in weights.items())
        torch.testing.assert_close(true_update(mix, name), expected, rtol=1e-5, atol=1e-6)
    assert mix.metrics["blend"][1] == {"name": "b", "version": 1, "weight": 0.3}


def test_stock_peft_runs_a_blend_of_different_counts(
    store: AdapterStore, load_base: Any, wrap: Any, tmp_path: Path
) -> None:
    folders = {}
    for name, n, targets in (("a", 40, ["query", "value"]), ("b", 25, ["key", "query"])):
        torch.manual_seed(n)
        model = wrap(load_base(), peft.FourierFTConfig(n_frequency=n, scaling=25.0, target_modules=targets))
        model.save_pretrained(tmp_path / name)
        folders[name] = tmp_path / name
        store.add(name, folders[name])
    blend(store, {"a": 0.6, "b": 0.4}, "mix")
    store.export("mix", tmp_path / "mix")

    def updates(folder: Path) -> dict[str, torch.Tensor]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Unexpected keyword arguments \['fourierft'\]")
            model = peft.PeftModel.from_pretrained(load_base(), folder)
        layers = {name: m for name, m in model.named_modules() if hasattr(m, "get_delta_weight")}
        return {name: layer.get_delta_weight("default").detach() for name, layer in layers.items()}

    mix, a, b = updates(tmp_path / "mix"), updates(folders["a"]), updates(folders["b"])
    assert mix.keys() == a.keys() | b.keys()
    for name, update in mix.items():
        expected = 0.6 * a.get(name, torch.zeros(32, 32)) + 0.4 * b.get(name, torch.zeros(32, 32))
        torch.testing.assert_close(update, expected, rtol=1e-4, atol=1e-5)


def test_layout_stays_where_the_layers_do(make_layout: Any) -> None:
    layout = make_layout()
    assert blended_layout(layout, common_layers([layout, make_layout(n_frequency=3)])) is layout


def test_difference_with_itself_is_nothing(store: AdapterStore, layout: Any, row: Any) -> None:
    store.put("a", layout, row(0))
    store.put("b", layout, row(0))
    blend(store, {"a": 1.0, "b": -1.0}, "none")
    assert not store.get("none").values.any()


def test_heads_that_differ_ask_for_a_choice(store: AdapterStore, layout: Any, row: Any) -> None:
    store.put("a", layout, row(0), heads={"head": row(1)})
    store.put("b", layout, row(2), heads={"head": row(1)})
    store.put("c", layout, row(3), heads={"head": row(4)})
    blend(store, {"a": 0.5, "b": 0.5}, "same")
    assert torch.equal(store.get("same").heads["head"], row(1))
    with pytest.raises(StoreError, match=r"'a' and 'c' have different heads \(head\), .*such as --head 'a'"):
        blend(store, {"a": 0.5, "c": 0.5}, "mix")
    blend(store, {"a": 0.5, "c": 0.5}, "mix", head="c")
    assert torch.equal(store.get("mix").heads["head"], row(4))


def test_other_draws_are_refused(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("a", make_layout(), row(0))
    store.put("b", make_layout(random_loc_seed=6), row(1))
    with pytest.raises(StoreError, match=r"different entries \(uniform:5, uniform:6\).* the same random_loc_seed"):
        blend(store, {"a": 0.5, "b": 0.5}, "mix")
    assert "mix" not in store


@pytest.mark.parametrize("weights", [{}, {"a": float("nan")}, {"a": float("inf")}])
def test_weights_that_do_not_add_up_are_refused(
    store: AdapterStore, layout: Any, row: Callable[[int], torch.Tensor], weights: dict[str, float]
) -> None:
    store.put("a", layout, row(0))
    with pytest.raises(ConfigError, match="give each adapter a finite number"):
        blend(store, weights, "mix")


def test_shapes_that_contradict_are_refused(make_layout: Any) -> None:
    with pytest.raises(StoreError, match=r"a\.query is \(16, 12\) in one adapter and \(12, 16\) in another"):
        common_layers([make_layout(), make_layout(shapes={"a.query": (12, 16)})])

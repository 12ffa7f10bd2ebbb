"""The store's promises, on every backend that is here: what goes in comes out, by name and version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import fourierft
from fourierft.errors import ConfigError, ShapeError, StoreError
from fourierft.store import AdapterStore, Layer, Layout

CONFIG = {"peft_type": "FOURIERFT", "base_model_name_or_path": "org/base", "n_frequency": 3, "scaling": 8.0}


def test_public_name_is_the_store() -> None:
    assert fourierft.AdapterStore is AdapterStore


def test_same_name_makes_the_next_version(store: AdapterStore, layout: Layout, row: Any) -> None:
    assert [store.put("a", layout, row(k)) for k in range(3)] == [1, 2, 3]
    assert list(store.versions("a")) == [1, 2, 3]
    assert (len(store), "a" in store, "b" in store) == (1, True, False)
    assert torch.equal(store.get("a").values, row(2))
    assert torch.equal(store.get("a", 1).values, row(0))


def test_same_name_can_be_refused(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a", layout, row(0), exist_ok=False)
    with pytest.raises(StoreError, match="already has an adapter 'a', version 1; choose another name"):
        store.put("a", layout, row(1), exist_ok=False)
    assert list(store.versions("a")) == [1]


def test_removed_version_number_is_never_given_again(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(3):
        store.put("a", layout, row(k))
    assert store.remove("a", 3) == 1
    assert torch.equal(store.get("a").values, row(1))
    assert store.put("a", layout, row(4)) == 4
    assert store.remove("a") == 3
    assert "a" not in store
    assert store.put("a", layout, row(5)) == 5


def test_names_and_lists_are_sorted_and_filtered(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k, name in enumerate(["b", "Ä", "ab", "a", "B", "ab"]):
        store.put(name, layout, row(k), dtype="int8" if name == "a" else "float32", metrics={"accuracy": k / 10})
    assert list(store.names()) == ["B", "a", "ab", "b", "Ä"]
    assert list(store.names("a")) == ["a", "ab"]
    assert list(store.names(after="a")) == ["ab", "b", "Ä"]
    assert list(store.names("a", "aa")) == [each.name for each in store.list("a", after="aa")] == ["ab"]
    assert list(store.names("a", "ab")) == list(store.names("a", "c")) == []
    assert [(listed.name, listed.version) for listed in store.list("a", versions=True)] == [
        ("a", 1),
        ("ab", 1),
        ("ab", 2),
    ]
    first, second = store.list("a")
    assert (first.n, first.scaling, first.dtype, first.bytes) == (60, 8.0, "int8", 60 + 3 * 4)
    assert (second.version, second.metrics) == (2, {"accuracy": 0.5})


def test_many_are_added_as_one_by_one(store: AdapterStore, layout: Layout, row: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("fourierft.store.store._BATCH_ROWS", 4)
    assert store.add_many(layout, ((f"t{k:02d}", row(k)) for k in range(10)), "bfloat16", total=10) == 10
    assert store.add_many(layout, [("t03", row(50))]) == 1
    assert len(store) == 10
    assert torch.equal(store.get("t07").values, row(7).bfloat16().float())
    assert torch.equal(store.get("t03").values, row(50))
    assert [adapter.name for adapter in store] == [f"t{k:02d}" for k in (0, 1, 2, 4, 5, 6, 7, 8, 9, 3)]


def test_error_among_many_keeps_the_transactions_before_it(
    store: AdapterStore, layout: Layout, row: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("fourierft.store.store._BATCH_ROWS", 4)
    rows = [(f"t{k}", row(k)) for k in range(6)] + [("t6", torch.zeros(59))]
    with pytest.raises(ShapeError, match=r"got coefficients of shape \[59\]; this layout of 3 layers takes \[60\]"):
        store.add_many(layout, rows)
    assert list(store.names()) == ["t0", "t1", "t2", "t3"]


def test_coefficients_are_scaled_rows_in_the_order_asked_for(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("b", make_layout(), row(0))
    store.put("a", make_layout(scaling=2.0), row(1))
    store.put("a", make_layout(scaling=2.0), row(2))
    torch.testing.assert_close(store.coefficients(), torch.stack([2 * row(2), 8 * row(0)]))
    torch.testing.assert_close(store.coefficients(["b"]), 8 * row(0)[None])
    with pytest.raises(StoreError, match="has no adapter 'c'"):
        store.coefficients(["b", "c"])


def test_name_may_be_asked_for_twice(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k, name in enumerate("abc"):
        store.put(name, layout, row(k))
    torch.testing.assert_close(store.coefficients(["c", "a", "c"]), 8 * torch.stack([row(2), row(0), row(2)]))


def test_store_that_changes_while_it_is_read_gives_no_wrong_row(
    store: AdapterStore, make_layout: Any, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k, name in enumerate("ab"):
        store.put(name, make_layout(), row(k))
    small = store.layers()
    monkeypatch.setattr(store, "names", lambda: iter(["b"]))  # as before a came
    torch.testing.assert_close(store.coefficients(), 8 * row(1)[None])
    monkeypatch.setattr(store, "names", lambda: iter(["a", "b", "c"]))  # as before c went
    with pytest.raises(StoreError, match="lost 1 adapters while it was read"):
        store.coefficients()
    store.put("d", make_layout(n_frequency=30), torch.randn(90))
    monkeypatch.setattr(store, "layers", lambda names: small)  # as before d came
    with pytest.raises(StoreError, match="an adapter with more coefficients was added"):
        store.coefficients()


def test_smaller_n_is_padded_with_zeros(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("large", make_layout(), row(0))
    store.put("small", make_layout(n_frequency=5), row(1)[:15])
    bank = store.coefficients(["large", "small"])
    assert torch.equal(bank[1].view(3, 20)[:, :5], 8 * row(1)[:15].view(3, 5))
    assert not bank[1].view(3, 20)[:, 5:].any()


def test_missing_adapter_and_version_are_named(store: AdapterStore, layout: Layout, row: Any) -> None:
    with pytest.raises(StoreError, match="has no adapter 'a'"):
        store.get("a")
    store.put("a", layout, row(0))
    for call in (store.get, store.remove):
        with pytest.raises(StoreError, match="'a' has no version 7; there are 1"):
            call("a", 7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_largest_number_is_kept_or_refused(store: AdapterStore, make_layout: Any, dtype: str) -> None:
    """bfloat16 rounds it up to infinity."""
    largest = torch.zeros(60).index_fill_(0, torch.tensor([7]), torch.finfo(torch.float32).max)
    if dtype == "bfloat16":
        with pytest.raises(ShapeError, match=r"bfloat16 cannot hold coefficients as large as 3\.4028e\+38; keep them"):
            store.put("a", make_layout(scaling=1.0), largest, dtype=dtype)
        assert "a" not in store
        return
    store.put("a", make_layout(scaling=1.0), largest, dtype=dtype)
    assert torch.isfinite(store.get("a").values).all()


def test_what_is_no_real_number_is_refused(store: AdapterStore, layout: Layout, row: Any) -> None:
    with pytest.raises(ShapeError, match="are complex numbers; give real ones"):
        store.put("a", layout, row(0) * 1j)
    with pytest.raises(ShapeError, match=r"a\.query got complex coefficients"):
        store.put("a", layout, {name: part * 1j for name, part in layout.split(row(0)).items()})
    for strange in (float("nan"), float("inf")):
        with pytest.raises(ShapeError, match="NaN or infinity"):
            store.put("a", layout, row(0) * strange)
    with pytest.raises(ShapeError, match="NaN or infinity"):
        store.put("a", layout, torch.full((60,), 1e300, dtype=torch.float64))
    assert len(store) == 0


def test_numbers_that_half_precision_cannot_hold_are_written_in_float32(store: AdapterStore, tmp_path: Path) -> None:
    """A sum of adapters keeps the layout of the first, whose checkpoint was of float16."""
    layout = Layout(CONFIG | {"target_modules": ["a"]}, (Layer("a", 3, (16, 12), "float16"),))
    store.put("a", layout, torch.tensor([1e5, 1.0, 1e-9]))
    store.put("b", layout, torch.tensor([0.5, 1.0, -2.0]))
    for name, dtype in (("a", torch.float32), ("b", torch.float16)):
        store.export(name, tmp_path / name)
        (tensor,) = load_file(tmp_path / name / "adapter_model.safetensors").values()
        assert tensor.dtype == dtype
        assert torch.equal(tensor.float(), store.get(name).values)


def test_metrics_that_are_no_json_are_refused(store: AdapterStore, layout: Layout, row: Any) -> None:
    for metrics in ({"loss": float("nan")}, {"loss": torch.zeros(())}, {"loss": {1, 2}}):
        with pytest.raises(ConfigError, match="the metrics cannot be saved as JSON"):
            store.put("a", layout, row(0), metrics=metrics)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "joe\udcff@live"])
def test_name_that_is_no_text_is_one_sentence(store: AdapterStore, layout: Layout, row: Any, name: str) -> None:
    store.put("a", layout, row(0))
    told = []
    calls: tuple[Any, ...] = (store.get, store.remove, store.versions, store.resolve, store.aliases, store.names)
    for call in calls:
        try:
            assert not list(call(name))
        except StoreError as error:
            told.append(str(error))
    with pytest.raises(StoreError, match="is not valid text; choose another"):
        store.put(name, layout, row(0))
    assert [text for text in told if "\n" in text or "permissions" in text] == []
    assert list(store.names()) == ["a"]


@pytest.mark.parametrize("version", [0, -1, 2**31, 2**63, 10**30])
def test_number_that_is_no_version_is_not_there(store: AdapterStore, layout: Layout, row: Any, version: int) -> None:
    store.put("a", layout, row(0))
    calls = [store.get, store.remove, lambda name, number: store.set_alias(name, "live", number)]
    for call in calls:
        with pytest.raises(StoreError, match=rf"'a' has no version {version}; there are 1"):
            call("a", version)


def test_base_may_be_a_path(open_store: Any, adapter: Path, tiny_bert: Path) -> None:
    store = open_store(base_model=tiny_bert)
    assert store.add("a", adapter, base=tiny_bert) == 1
    assert store.base.name == str(tiny_bert)
    with pytest.raises(StoreError, match="a name is text, not a PosixPath"):
        store.add(tiny_bert, adapter)

"""One base, one format, one writer, many readers: on every backend that is here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fourierft.errors import StoreError
from fourierft.store import AdapterStore, Layout


def test_layout_goes_with_its_last_adapter(store: AdapterStore, make_layout: Any, row: Any) -> None:
    store.put("a", make_layout(), row(0))
    store.put("b", make_layout(random_loc_seed=6), row(1))
    with pytest.raises(StoreError, match=r"different entries \(uniform:5, uniform:6\)"):
        store.coefficients()
    store.remove("b")
    assert store.coefficients().shape == (1, 60)


def test_the_latest_version_has_an_id_that_no_other_version_ever_had(
    store: AdapterStore, layout: Layout, row: Any
) -> None:
    assert store._tables.latest("a") is None
    given: list[Any] = []
    for k in range(3):
        version = store.put("a", layout, row(k))
        given.append(store._tables.latest("a"))
        assert given[-1][1] == version
        if k == 1:
            store.remove("a")
    assert len({key for key, _ in given}) == 3
    assert [found.digest for found in store._tables.layouts()] == [layout.digest]


def test_another_base_is_refused_with_both_names(
    open_store: Callable[..., AdapterStore], make_layout: Any, row: Any
) -> None:
    open_store().put("a", make_layout(), row(0))
    with pytest.raises(StoreError, match=r"keeps adapters of the base org/base, but it was opened for org/other; use"):
        open_store(base_model="org/other")
    with pytest.raises(StoreError, match=r"base org/base, but what is added was made for org/other"):
        open_store().put("b", make_layout(base_model_name_or_path="org/other"), row(1))
    assert list(open_store(base_model="org/base").names()) == ["a"]


def test_adapter_of_another_base_is_refused_and_its_new_place_can_be_told(
    open_store: Callable[..., AdapterStore], adapter: Path, edit_config: Any, tiny_bert: Path
) -> None:
    store = open_store(base_model=str(tiny_bert))
    edit_config(base_model_name_or_path="org/other")
    with pytest.raises(StoreError, match=r"tiny_bert.*was made for org/other"):
        store.add("a", adapter)
    assert store.add("a", adapter, base=str(tiny_bert)) == 1
    assert store.get("a").layout.bases is not None


def test_store_that_is_not_there_is_empty_or_refused(open_store: Callable[..., AdapterStore]) -> None:
    with pytest.raises(StoreError, match=r"there is no store .*create it with `fourierft store add`"):
        open_store(create=False)
    store = open_store()
    assert (len(store), list(store), list(store.list()), store.verify()) == (0, [], [], [])
    assert store.coefficients().shape == (0, 0)


def test_newer_format_is_refused(open_store: Callable[..., AdapterStore], layout: Layout, row: Any) -> None:
    store = open_store()
    store.put("a", layout, row(0))
    with store._tables.writing() as execute:
        execute("UPDATE fourierft_store SET value = '3' WHERE key = 'format'", {})
    with pytest.raises(StoreError, match="is a store of format 3, but this version reads format 2; upgrade fourierft"):
        open_store()


def test_readers_see_whole_adapters_while_one_writes(
    open_store: Callable[..., AdapterStore], location: Any, layout: Layout, row: Any
) -> None:
    writer = open_store()
    writer.put("t000", layout, row(0))
    done, wrong = threading.Event(), []

    def read() -> None:
        with AdapterStore(location) as reader:
            while not done.is_set():
                for adapter in reader:
                    k = int(adapter.name[1:])
                    if not torch.equal(adapter.values, row(k)):
                        wrong.append(adapter.name)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for k in range(1, 40):
        writer.put(f"t{k:03d}", layout, row(k))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(writer) == 40


def test_one_store_serves_threads(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(8):
        store.put(str(k), layout, row(k))
    right = []
    threads = [
        threading.Thread(target=lambda k=k: right.append(torch.equal(store.get(str(k)).values, row(k))))
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8


def test_second_writer_waits_and_then_says_so(
    open_store: Callable[..., AdapterStore], layout: Layout, row: Any
) -> None:
    first, second = open_store(), open_store(timeout=0.2)
    first.put("a", layout, row(0))
    with (
        first._tables.writing(),
        pytest.raises(StoreError, match=r"another process is writing .*\(waited 0\.2 s\); try"),
    ):
        second.put("b", layout, row(1))
    assert second.put("b", layout, row(1)) == 1

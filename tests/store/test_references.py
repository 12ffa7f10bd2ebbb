"""Names, versions and aliases: what a reference means, and what moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.errors import MissingAdapterError, StoreError
from fourierft.store import AdapterStore, Layout
from fourierft.store.references import check_alias, read_reference


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a@3", ("a", 3, None)),
        ("a@live", ("a", None, "live")),
        ("a@b@live", ("a@b", None, "live")),
        ("joe@example.com", ("joe", None, "example.com")),
        ("a@²", ("a", None, "²")),
        ("a@0", None),
        ("a@03", None),
        ("a@" + "9" * 5000, None),
        ("a", None),
        ("a@", None),
        ("@live", None),
        ("", None),
        ("a@" + "x" * 101, None),
    ],
)
def test_a_reference_is_read_from_its_last_sign(text: str, meaning: object) -> None:
    assert read_reference(text) == meaning


@pytest.mark.parametrize("alias", ["", "3", "007", "a@b", "x" * 101, "a\nb", "\ud800", "a\0"])
def test_what_cannot_be_an_alias_is_refused(alias: str) -> None:
    with pytest.raises(StoreError, match="cannot be an alias; use 1 to 100 printable characters"):
        check_alias(alias)


def test_names_versions_and_aliases_are_resolved(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(3):
        store.put("a", layout, row(k))
    assert store.set_alias("a", "live", 2) == 2
    assert store.set_alias("a", "next") == 3
    found = {text: store.resolve(text) for text in ("a", "a@1", "a@3", "a@live", "a@next")}
    assert {text: (one.name, one.version) for text, one in found.items()} == {
        "a": ("a", 3),
        "a@1": ("a", 1),
        "a@3": ("a", 3),
        "a@live": ("a", 2),
        "a@next": ("a", 3),
    }
    assert found["a"].id == found["a@3"].id == found["a@next"].id == store._tables.latest("a")[0]
    assert len({one.id for one in found.values()}) == 3
    assert store.aliases("a") == {"live": 2, "next": 3}
    assert store.verify() == []


def test_moving_an_alias_forth_and_back(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(2):
        store.put("a", layout, row(k))
    for version in (1, 2, 1):
        store.set_alias("a", "live", version)
        assert store.resolve("a@live").version == version
    store.remove_alias("a", "live")
    with pytest.raises(MissingAdapterError, match="'a' has no alias 'live'; there are none"):
        store.resolve("a@live")
    with pytest.raises(MissingAdapterError, match="'a' has no alias 'live'"):
        store.remove_alias("a", "live")


def test_what_is_not_there_is_named(store: AdapterStore, layout: Layout, row: Any) -> None:
    for reference in ("a", "a@1", "joe@example.com", "a@", ""):
        with pytest.raises(MissingAdapterError, match="has no adapter"):
            store.resolve(reference)
    store.put("a", layout, row(0))
    store.set_alias("a", "live")
    with pytest.raises(MissingAdapterError, match="'a' has no version 7; there are 1"):
        store.resolve("a@7")
    with pytest.raises(MissingAdapterError, match="'a' has no alias 'dead'; there are live"):
        store.resolve("a@dead")
    with pytest.raises(MissingAdapterError, match="'a' has no version 9"):
        store.set_alias("a", "live", 9)
    with pytest.raises(MissingAdapterError, match="has no adapter 'b'"):
        store.set_alias("b", "live", 1)
    assert store.aliases("a") == {"live": 1}


def test_version_that_an_alias_names_stays(store: AdapterStore, layout: Layout, row: Any) -> None:
    for k in range(2):
        store.put("a", layout, row(k))
    store.set_alias("a", "live", 1)
    with pytest.raises(StoreError, match="'a' version 1 has the alias a@live; move or remove that alias first"):
        store.remove("a", 1)
    assert store.remove("a", 2) == 1
    assert store.resolve("a@live").version == 1
    assert store.remove("a") == 1
    store.put("a", layout, row(3))
    assert store.aliases("a") == {}


def test_no_name_takes_the_place_of_a_reference(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("joe@example.com", layout, row(0))
    store.put("a", layout, row(1))
    store.set_alias("a", "live")
    with pytest.raises(StoreError, match="the name 'a@live' means the alias live of 'a'; choose another"):
        store.put("a@live", layout, row(2))
    with pytest.raises(StoreError, match="the name 'a@1' means version 1 of 'a'; choose another"):
        store.add_many(layout, [("b", row(3)), ("a@1", row(2))])
    store.put("joe", layout, row(3))
    with pytest.raises(StoreError, match=r"has an adapter 'joe@example\.com'; choose another alias"):
        store.set_alias("joe", "example.com")
    store.set_alias("joe@example.com", "live")
    assert store.resolve("joe@example.com@live").name == "joe@example.com"
    assert list(store.names()) == ["a", "joe", "joe@example.com"]


def test_a_name_that_was_there_before_keeps_its_meaning(store: AdapterStore, layout: Layout, row: Any) -> None:
    store.put("a@2", layout, row(0))
    for k in range(2):
        store.put("a", layout, row(k))
    assert store.resolve("a@2")[1:] == ("a@2", 1)
    assert store.put("a@2", layout, row(1)) == 2


def test_readers_see_one_version_or_the_other_while_an_alias_moves(
    open_store: Callable[..., AdapterStore], location: str | Path, layout: Layout, row: Any
) -> None:
    """Old versions go as soon as the alias has left them, as a server's operator would have it."""
    writer = open_store()
    writer.put("a", layout, row(0))
    writer.set_alias("a", "live")
    done, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        with AdapterStore(location) as reader:
            while not done.is_set():
                try:
                    seen.add(reader.resolve("a@live").version)
                except StoreError as error:
                    wrong.append(str(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(1, 15):
        version = writer.put("a", layout, row(k))
        writer.set_alias("a", "live", version)
        writer.remove("a", version - 1)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen <= set(range(1, 16))

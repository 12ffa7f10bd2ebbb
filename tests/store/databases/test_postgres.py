"""The database: what is wrong with the address or the packages is one sentence. `test_store.py` runs on a server."""

from __future__ import annotations

import sys

import pytest

from fourierft.errors import MissingExtraError, StoreError
from fourierft.store import AdapterStore


@pytest.mark.parametrize("module", ["sqlalchemy", "psycopg"])
def test_missing_package_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fourierft\[postgres\]'"):
        AdapterStore("postgresql://nobody@localhost/nothing")


def test_server_that_is_not_there_is_told_of_without_the_password() -> None:
    with pytest.raises(StoreError, match="check the address, the server") as caught:
        AdapterStore("postgresql://me:secret@127.0.0.1:1/fleet", timeout=2)
    assert "secret" not in str(caught.value)
    assert "postgresql://me:***@127.0.0.1:1/fleet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(StoreError, match="is not the address of a database"):
        AdapterStore("postgresql://host:port/fleet")

"""Tenants by their keys, and as they change."""

from __future__ import annotations

import hashlib

import pytest

from fourierft.serving.tenant import EVERYBODY, Tenant
from fourierft.serving.tenants import Tenants

ACME, BOSS = Tenant("acme", ("acme/*",)), Tenant("boss", ("*",), admin=True)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def find(tenants: Tenants, *headers: bytes) -> Tenant | None:
    turns = tenants.find(headers)
    return None if turns is None else turns.tenant


def test_a_key_leads_to_its_tenant_and_nothing_else_does() -> None:
    tenants = Tenants({digest("key"): ACME, digest("other"): BOSS})
    assert find(tenants, b"Bearer key") == ACME
    assert find(tenants, b"bearer   other ") == BOSS
    for headers in ((), (b"",), (b"Bearer",), (b"Bearer keys",), (b"Basic key",), (b"Bearer key", b"Bearer other")):
        assert find(tenants, *headers) is None
    assert not tenants.are_open
    assert Tenants().are_open
    assert find(Tenants()) == EVERYBODY


@pytest.mark.parametrize("header", [b"Bearer", b"Bearer ", b"Bearer \t "])
def test_an_empty_key_is_nobodys_even_if_its_digest_is_there(header: bytes) -> None:
    assert find(Tenants({digest(""): BOSS}), header) is None


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_key_that_is_no_ascii_is_found_as_curl_and_as_a_browser_send_it(encoding: str) -> None:
    assert find(Tenants({digest("clé-ß"): ACME}), b"Bearer " + "clé-ß".encode(encoding)) == ACME


def test_two_keys_are_one_tenant_with_one_count() -> None:
    tenants = Tenants({digest("old"): ACME, digest("new"): ACME})
    assert tenants.find([b"Bearer old"]) is tenants.find([b"Bearer new"])
    assert len(tenants.all()) == 1


def test_a_change_takes_keys_away_and_leaves_the_count_of_who_stays() -> None:
    tenants = Tenants({digest("old"): ACME, digest("boss"): BOSS})
    turns = tenants.find([b"Bearer old"])
    assert turns is not None
    with turns.place():
        tenants.replace({digest("new"): Tenant("acme", ("acme/*",), running=1)})
        assert find(tenants, b"Bearer old") is find(tenants, b"Bearer boss") is None
        assert tenants.find([b"Bearer new"]) is turns
        assert (turns.places, turns.tenant.running) == (1, 1)

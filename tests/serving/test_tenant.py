from __future__ import annotations

from fourierft.serving.tenant import Tenant


def test_patterns_are_those_of_a_shell() -> None:
    tenant = Tenant("acme", ("acme/*", "shared", "v[12]"))
    assert [tenant.may_use(name) for name in ("acme/a", "acme/a/b", "shared", "v2")] == [True] * 4
    assert [tenant.may_use(name) for name in ("acme", "Acme/a", "shared2", "v3", "")] == [False] * 5
    assert tenant.prefixes() == ["acme/", "shared", "v"]
    assert Tenant("all", ("*", "a")).prefixes() == [""]


def test_tenants_have_salts_of_their_own() -> None:
    assert Tenant("a").salt != Tenant("b").salt

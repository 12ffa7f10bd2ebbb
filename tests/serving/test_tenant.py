from __future__ import annotations

import fnmatch
import random

import pytest

from fourierft.serving.tenant import Tenant


def test_patterns_are_those_of_a_shell() -> None:
    tenant = Tenant("acme", ("acme/*", "shared", "v[12]"))
    assert [tenant.may_use(name) for name in ("acme/a", "acme/a/b", "shared", "v2")] == [True] * 4
    assert [tenant.may_use(name) for name in ("acme", "Acme/a", "shared2", "v3", "")] == [False] * 5
    assert tenant.prefixes() == {"acme/": False, "shared": True, "v": False}
    assert Tenant("all", ("*", "a")).prefixes() == {"": False}
    assert Tenant("all", ("ab", "a", "abc*", "abcd", "a")).prefixes() == {"a": True, "ab": True, "abc": False}


def test_patterns_together_fit_what_one_of_them_fits() -> None:
    chance = random.Random(0)
    for _ in range(3000):
        patterns = tuple(
            "".join(chance.choice("ab*?[]!-^|()\\") for _ in range(chance.randrange(6)))
            for _ in range(chance.randrange(4))
        )
        name = "".join(chance.choice("ab*]-^|(\\\n") for _ in range(chance.randrange(5)))
        wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        assert Tenant("x", patterns).may_use(name) == wanted, (patterns, name)


def test_names_of_ten_thousand_tenants_are_looked_at_in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patterns of a tenant are compiled once, not again whenever 256 others have asked meanwhile."""
    tenants = [Tenant(f"t{k}", (f"t{k}/*", "shared")) for k in range(1000)]
    assert all(tenant.may_use("shared") for tenant in tenants)
    monkeypatch.setattr(fnmatch, "translate", None)
    assert not any(tenant.may_use("u/a") for tenant in tenants)


def test_tenants_have_salts_of_their_own() -> None:
    assert Tenant("a").salt != Tenant("b").salt

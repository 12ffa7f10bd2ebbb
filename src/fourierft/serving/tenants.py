"""Who asks: the tenants by their keys, which may change while the server runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from fourierft.serving.tenant import EVERYBODY, Tenant
from fourierft.serving.turns import Turns


class Tenants:
    """All tenants, by the SHA-256 of their keys; without any, everybody is one tenant and needs no key."""

    def __init__(self, by_digest: Mapping[str, Tenant] | None = None, everybody: Tenant = EVERYBODY) -> None:
        self._everybody = None if by_digest is not None else Turns(everybody)
        self._turns: dict[str, Turns] = {}
        self.replace(by_digest or {})

    @property
    def are_open(self) -> bool:
        """Whether everybody may ask, without a key."""
        return self._everybody is not None

    def replace(self, by_digest: Mapping[str, Tenant]) -> None:
        """Let these tenants be all; one whose name stays keeps the count of its requests."""
        known = {turns.tenant.name: turns for turns in self._turns.values()}
        for tenant in by_digest.values():
            if tenant.name in known:
                known[tenant.name].change(tenant)
            else:
                known[tenant.name] = Turns(tenant)
        self._turns = {digest: known[tenant.name] for digest, tenant in by_digest.items()}

    def find(self, authorization: Sequence[bytes]) -> Turns | None:
        """Whose request it is; None if it has no key, or one that is nobody's.

        Args:
            authorization: values of its `Authorization` headers: one, `Bearer KEY`. Browsers and some clients send a
                key that is no ASCII in Latin-1, others in UTF-8; both find the digest of its UTF-8.
        """
        if self._everybody is not None:
            return self._everybody
        scheme, _, key = (authorization[0] if len(authorization) == 1 else b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        key = key.strip()
        digests = (hashlib.sha256(form).hexdigest() for form in (key, key.decode("latin-1").encode()))
        return next((self._turns[digest] for digest in digests if key and digest in self._turns), None)

    def all(self) -> list[Turns]:
        if self._everybody is not None:
            return [self._everybody]
        return list({turns.tenant.name: turns for turns in self._turns.values()}.values())

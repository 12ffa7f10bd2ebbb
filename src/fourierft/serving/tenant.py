"""What the holder of a key may do."""

from __future__ import annotations

import fnmatch
import hashlib
import math
import re
from dataclasses import dataclass
from functools import cached_property

from fourierft.store.additions import MOST_CHARACTERS

_LITERAL = re.compile(r"[^*?\[]*")


@dataclass(frozen=True)
class Tenant:
    """What the holder of a key may do.

    Attributes:
        name: for logs and metrics.
        adapters: patterns of names as a shell has them: `acme/*`, `shared`.
        base: whether the base model itself may be asked.
        admin: whether adapters may be added and removed, and all of them and the metrics seen.
        requests_per_minute: most in a minute.
        running: most requests that are answered at once.
        waiting: most requests beyond these that wait for their turn.
    """

    name: str
    adapters: tuple[str, ...] = ()
    base: bool = True
    admin: bool = False
    requests_per_minute: float = math.inf
    running: int = 256
    waiting: int = 1024

    def may_use(self, adapter: str) -> bool:
        """Whether an adapter is this tenant's to use and see."""
        return len(adapter) <= MOST_CHARACTERS and self._fitting.match(adapter) is not None

    def prefixes(self) -> dict[str, bool]:
        """What the names of its adapters begin with, as few as say all, in the order of names.

        Returns: beginning -> whether it is all of a name.
        """
        whole: dict[str, bool] = {}
        for pattern in self.adapters:
            literal = _LITERAL.match(pattern)[0]  # type: ignore[index]
            whole[literal] = literal == pattern and whole.get(literal, True)
        found: dict[str, bool] = {}
        last = None  # a beginning of which there are several names
        for literal in sorted(whole):
            if last is None or not literal.startswith(last):
                found[literal] = whole[literal]
                last = last if whole[literal] else literal
        return found

    @cached_property
    def _fitting(self) -> re.Pattern[str]:
        """All patterns in one, kept: fnmatch keeps those of a few tenants alone."""
        return re.compile("|".join(map(fnmatch.translate, self.adapters)) or "(?!)")

    @property
    def salt(self) -> str:
        """Of its prefixes in the cache, so that no answer is sooner there because another tenant asked the same."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:32]


EVERYBODY = Tenant("everybody", ("*",))

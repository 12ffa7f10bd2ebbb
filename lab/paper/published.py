"""The paper's numbers, from published.toml."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("published.toml")


@functools.cache
def read_paper() -> dict[str, Any]:
    """Tables and figures by name, as published.toml has them."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))

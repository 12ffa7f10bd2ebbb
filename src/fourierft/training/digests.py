"""Rows by their digest, so that a training goes on with those that it began with, and no others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

BATCH = 1000


def row_digests(rows: Any) -> Iterator[bytes]:
    """A digest of each row of a table, as the model reads it: of its tokens and labels.

    Args:
        rows: of a split, encoded.
    """
    for start in range(0, len(rows), BATCH):
        columns = rows[start : start + BATCH]
        names = sorted(columns)
        for row in zip(*(columns[name] for name in names), strict=True):
            yield hashlib.sha256(json.dumps([names, row], default=str).encode()).digest()


def digest_files(paths: Sequence[Path]) -> str:
    """Number and digest of files, in their order."""
    return digest_all(hashlib.sha256(path.read_bytes()).digest() for path in paths)


def digest_all(digests: Iterable[bytes]) -> str:
    """Number and digest of what has a digest each."""
    whole, count = hashlib.sha256(), 0
    for digest in digests:
        whole.update(digest)
        count += 1
    return f"{count}, digest {whole.hexdigest()[:16]}"

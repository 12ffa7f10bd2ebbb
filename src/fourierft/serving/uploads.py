"""Adapters that come over the network: a zip file of a PEFT directory, read to disk and unpacked there."""

from __future__ import annotations

import asyncio
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from fourierft.errors import CheckpointError
from fourierft.extras import needs
from fourierft.files import explain, written_to
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE
from fourierft.serving.client import Client
from fourierft.serving.limits import Limits
from fourierft.serving.responses import RefusedError
from fourierft.store import AdapterStore

with needs("serve", "the server"):
    from starlette.concurrency import run_in_threadpool

_DIRECTORY = 1 << 20  # bytes of a zip file's directory
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, RuntimeError)


class Uploads:
    """Adds what clients send.

    Args:
        store: to which.
        limits: what a client may take.
    """

    def __init__(self, store: AdapterStore, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._free = asyncio.Semaphore(limits.uploads)

    async def add(self, name: str, client: Client) -> tuple[int, int]:
        """Add the adapter that a client sends.

        Returns: its version, and bytes.

        Raises: RefusedError, if there is too much at once, or it is too long or slow. CheckpointError, if it is no zip
            file of a PEFT directory. StoreError and ShapeError, as `AdapterStore.add`. PlaceError, if there is no room
            to unpack it. ClientGoneError.
        """
        if self._free.locked():
            raise RefusedError(503, f"{self._limits.uploads} adapters are being added; add it later.", retry_after=5)
        async with self._free:
            with (
                written_to(Path(tempfile.gettempdir())),
                tempfile.TemporaryDirectory() as folder,
                tempfile.TemporaryFile() as file,
            ):
                async for part in client.parts(self._limits.adapter, self._limits.pause, self._limits.adapter_time):
                    await run_in_threadpool(file.write, part)
                size = file.tell()
                version = await run_in_threadpool(self._add, name, file, Path(folder))
                return version, size

    def _add(self, name: str, file: BinaryIO, folder: Path) -> int:
        unzip(file, folder, self._limits.adapter)
        return self._store.add(name, folder)


def unzip(file: BinaryIO, folder: Path, most: int) -> None:
    """Write the two files of an adapter, wherever in the zip they are; nothing else of it is looked at.

    Args:
        file: that can be sought in.
        folder: to write to.
        most: bytes of both.

    Raises: CheckpointError, if it is no zip file, or they unpack to too much. OSError, if the folder is full.
    """
    try:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            entries = [
                entry for entry in archive.infolist() if Path(entry.filename).name in (CONFIG_FILE, WEIGHTS_FILE)
            ]
            own = [Path(entry.filename).name for entry in entries]
            if len(set(own)) < len(own):
                raise CheckpointError(f"the zip file has {', '.join(own)}; send one of each")
            if sum(entry.file_size for entry in entries) > most:
                raise CheckpointError(f"{' and '.join(own)} are larger than {most:,} bytes")
            for entry, name in zip(entries, own, strict=True):
                with archive.open(entry) as packed, (folder / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except (*_DAMAGED, ValueError, OSError) as error:
        if isinstance(error, CheckpointError) or explain(error):
            raise
        raise CheckpointError(f"the body is not a zip file of a PEFT folder ({error})") from error


def _check_directory(file: BinaryIO) -> None:
    """Raise CheckpointError for a zip file whose directory would take more memory than an adapter's can need."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(max(0, size - (1 << 16) - 100))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("it has no directory")
    if struct.unpack_from("<L", tail, end + 12)[0] > _DIRECTORY or b"PK\x06\x07" in tail[max(0, end - 20) : end]:
        raise CheckpointError(f"the zip file's directory is larger than {_DIRECTORY:,} bytes; pack only the two files")

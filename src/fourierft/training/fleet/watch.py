"""A folder of files that is looked at again and again: what has come since is an adapter, which joins."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from fourierft.errors import FourierFTError
from fourierft.training.fleet.data import FleetData, adapter_files
from fourierft.training.fleet.tenants import Tenant

_PAUSE = 1.0  # seconds between two looks, and since a file was last written to


class Watch:
    """The newcomers of a folder.

    A file that cannot be read costs none of the others: it is told once, and read again when it changes. One that has
    just been written to is left until it rests.

    Args:
        folder: with a file for each adapter.
        data: that newcomers are added to.
        patience: seconds to wait for newcomers when there is nothing else to do.
    """

    def __init__(self, folder: Path, data: FleetData, patience: float) -> None:
        self._folder, self._data, self._patience = folder, data, patience
        self._next = 0.0
        self._refused: dict[Path, int] = {}

    def look(self) -> list[Tenant]:
        """Those who have come, if the last look was a while ago."""
        return self._read() if time.monotonic() >= self._next else []

    def wait(self, is_over: Callable[[], bool]) -> list[Tenant]:
        """The next who come; none, if nobody does for as long as there is patience.

        Args:
            is_over: ends it early.
        """
        end = time.monotonic() + self._patience
        while not (found := self._read()) and not is_over() and time.monotonic() < end:
            time.sleep(min(_PAUSE, self._patience))
        return found

    def _read(self) -> list[Tenant]:
        self._next = time.monotonic() + _PAUSE
        found: list[Tenant] = []
        for file, stamp in self._unknown():
            if file.stem in self._data.tenants or self._refused.get(file) == stamp:
                continue
            try:
                found += self._data.add_file(file)
            except FourierFTError as error:
                self._refused[file] = stamp
                tqdm.write(f"fourierft: {error}; it is read again when it changes", file=sys.stderr)
        return found

    def _unknown(self) -> list[tuple[Path, int]]:
        """Files of no adapter that is known, which rest, and when each was last written to."""
        known = self._data.tenants
        try:
            files = sorted(file for file in adapter_files(self._folder) if file.stem not in known)
            written = [(file, file.stat().st_mtime_ns) for file in files]
        except OSError:  # one has just gone, or the folder; the next look sees what is there
            return []
        return [(file, stamp) for file, stamp in written if abs(time.time() - stamp / 1e9) >= _PAUSE]

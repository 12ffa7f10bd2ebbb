"""Ledgers: files of JSON lines, a row a line, to which rows are only added.

A row says what was measured, and what made it. An experiment has a file, a `Ledger`, whose rows are found by their
cell: what tells a row from the others of the experiment. Benchmarks have a folder with a file a suite, whose rows are
found by `key_of`; there a newer row of the same key stands for the older ones, which stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierft.bars import bar
from fourierft.training.output import append_json_line, read_json_lines
from fourierft.training.provenance import find_commit, versions

Row = dict[str, Any]
KEY = ("suite", "case", "contender", "dtype", "device", "threads")


class Ledger:
    """The file of an experiment's rows.

    Args:
        file: of JSON lines; made when the first row comes.
        stamp: what every new row says beside its own, such as the command that makes it.
        tell: is given a line a training.
    """

    def __init__(self, file: Path, stamp: Mapping[str, Any], tell: Callable[[str], None] = print) -> None:
        self.file = file
        self.stamp = dict(stamp)
        self.tell = tell

    def rows(self) -> list[Row]:
        """All rows, those of other commands included, in the order they were made."""
        return read_json_lines(self.file)

    def missing(self, cells: Sequence[Row], max_runs: int | None) -> Iterator[Row]:
        """The cells that have no row yet, at most `max_runs`, with a bar and the time left on stderr.

        Args:
            cells: what a row says that tells it from others of the experiment.
        """
        rows = self.rows()
        left = [cell for cell in cells if not any(all(row.get(key) == cell[key] for key in cell) for row in rows)]
        yield from bar(left[:max_runs], "running", "runs")

    def add(self, cell: Row, content: Mapping[str, Any]) -> None:
        """Write the row of a cell; on return it is on the disk."""
        made = {"versions": versions(), "commit": find_commit()}
        append_json_line(self.file, {**self.stamp, **cell, **content, **made})


def key_of(row: Row) -> tuple[Any, ...]:
    """What a row of a suite measured."""
    return tuple(row[name] for name in KEY)


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Append rows to the `<suite>.jsonl` of each; on return they are on the disk."""
    for row in rows:
        append_json_line(folder / f"{row['suite']}.jsonl", dict(sorted(row.items())))


def read_folder(folder: Path) -> list[Row]:
    """All rows of a folder, each file in the order of its lines."""
    return [row for file in sorted(folder.glob("*.jsonl")) for row in read_json_lines(file)]


def newest_rows(rows: Iterable[Row]) -> list[Row]:
    """The last row of each key, in the order of first appearance."""
    return list({key_of(row): row for row in rows}.values())


def measured_keys(rows: Iterable[Row], code: str) -> set[tuple[Any, ...]]:
    """Keys that are already measured for a state of the code; none for code that is not committed."""
    return set() if code.endswith("+dirty") else {key_of(row) for row in rows if row["code"] == code}


def versions_of(rows: Iterable[Row]) -> str:
    """The versions that made rows, each once: accelerate 1.15.0, datasets 5.2.0, ..."""
    return ", ".join(sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()}))


def devices_of(rows: Iterable[Row]) -> str:
    """The devices that rows were made on, each once."""
    return ", ".join(sorted({row["device"] for row in rows if "device" in row}))

"""Results of an experiment: a JSON object a line, each with the command that made it; none is made twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fourierft.training import output, report
from fourierft.training.comparison.grid import find_commit
from fourierft.training.comparison.results import read_lines

Row = dict[str, Any]
Item = TypeVar("Item")


class Ledger:
    """The file of an experiment's rows.

    Args:
        file: of JSON lines; made when the first row comes.
        stamp: what every new row says beside its own: experiment, stand_in, command.
        tell: is given a line a training.
    """

    def __init__(self, file: Path, stamp: Mapping[str, Any], tell: Callable[[str], None] = print) -> None:
        self.file = file
        self.stamp = dict(stamp)
        self.tell = tell

    def rows(self) -> list[Row]:
        """All rows, those of other commands included, in the order they were made."""
        return read_lines(self.file)

    def has(self, labels: Mapping[str, Any]) -> bool:
        """Whether there is a row with these labels, made as a stand-in or not as the new ones are."""
        wanted = {"stand_in": self.stamp["stand_in"], **labels}
        return any(wanted.items() <= {key: row.get(key) for key in wanted}.items() for row in self.rows())

    def add(self, labels: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Write a row; on return it is on the disk."""
        made = {"versions": report.versions(), "commit": find_commit()}
        output.append_json_line(self.file, {**self.stamp, **labels, **content, **made})

    @staticmethod
    def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
        """The items one by one, with a bar and the time left on stderr."""
        from tqdm import tqdm

        yield from tqdm(items, unit=what, disable=None, file=sys.stderr)

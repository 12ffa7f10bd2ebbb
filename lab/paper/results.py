"""Results of an experiment: a JSON object a line, each with the command that made it; none is made twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierft.training import output
from fourierft.training.comparison.results import read_lines
from fourierft.training.provenance import find_commit, versions

Row = dict[str, Any]


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

    def missing(self, cells: Sequence[Row], max_runs: int | None) -> Iterator[Row]:
        """The cells that have no row yet, at most `max_runs`, with a bar and the time left on stderr.

        Args:
            cells: what a row says that tells it from others of the experiment.
        """
        from tqdm import tqdm

        rows = self.rows()
        left = [cell for cell in cells if not any(all(row.get(key) == cell[key] for key in cell) for row in rows)]
        yield from tqdm(left[:max_runs], unit="run", disable=None, file=sys.stderr)

    def add(self, cell: Row, content: Mapping[str, Any]) -> None:
        """Write the row of a cell; on return it is on the disk."""
        made = {"versions": versions(), "commit": find_commit()}
        output.append_json_line(self.file, {**self.stamp, **cell, **content, **made})

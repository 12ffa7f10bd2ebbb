"""Tables for a terminal and for Markdown, and what stands in their cells: sizes, and names of others."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence

_NUMBER = re.compile(r"-?[\d.,]+( [kMG]?B)?")

Table = Sequence[Sequence[str]]


def align_columns(rows: Table, headings: bool = False) -> str:
    """Rows as aligned columns for a terminal, the first to the left, cells that are numbers to the right.

    Args:
        rows: of text; some may have fewer cells.
        headings: the first row is one of headings, ruled off; all columns but the first stand to the right below them.
    """
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column and (headings or _NUMBER.fullmatch(cell)) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    if headings:
        lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def fit_columns(rows: Table, width: int, headings: bool = False) -> str:
    """Rows as `align_columns` has them, in several tables one below another if one is wider than there is room.

    Each has the first column again, and at least one more.

    Args:
        rows, headings: as there.
        width: characters of a line.
    """
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(max(map(len, rows)))]
    parts: list[list[int]] = [[]]  # the columns of each table, but the first
    room = width - widths[0]
    for column, wide in enumerate(widths[1:], start=1):
        if parts[-1] and wide + 2 > room:
            parts.append([])
            room = width - widths[0]
        parts[-1].append(column)
        room -= wide + 2
    tables = [[[row[column] for column in (0, *part) if column < len(row)] for row in rows] for part in parts]
    return "\n\n".join(align_columns(table, headings) for table in tables)


def show_columns(rows: Table, headings: bool = False) -> str:
    """Rows as `align_columns` has them, or as `fit_columns` has them if standard output is a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return align_columns(rows, headings)
    return fit_columns(rows, shutil.get_terminal_size().columns, headings)


def markdown_table(rows: Table) -> str:
    """Headings and rows as a table of Markdown; bars in cells are escaped."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines)


def format_bytes(size: float) -> str:
    """A size in bytes as a person reads it, in units of 1000."""
    for unit in ("B", "kB", "MB"):
        if size < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def escape_controls(name: str) -> str:
    """A name on one line of a terminal: control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)

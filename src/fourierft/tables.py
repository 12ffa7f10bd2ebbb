"""Tables for a terminal and for Markdown, and what stands in their cells: sizes, and names of others."""

from __future__ import annotations

import re
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

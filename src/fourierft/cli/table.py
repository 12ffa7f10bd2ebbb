"""Tables, sizes and names as commands print them."""

from __future__ import annotations


def format_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of text, the first column to the left, the others to the right, a rule below the first row."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def size(count: int) -> str:
    """Bytes for people: 952 bytes, 48.0 kB, 3.1 MB."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def printable(name: str) -> str:
    """A name on one line of a terminal: control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)

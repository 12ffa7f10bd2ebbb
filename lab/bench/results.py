"""Results as JSON lines: one file a suite, one line a row, always appended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
KEY = ("suite", "case", "contender", "dtype", "device", "threads")


def key_of(row: Row) -> tuple[Any, ...]:
    """What a row measured; a newer row of the same key replaces it."""
    return tuple(row[name] for name in KEY)


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Append rows to `<suite>.jsonl`, each file in one write, so that an interruption leaves whole lines."""
    by_suite: dict[str, list[Row]] = {}
    for row in rows:
        by_suite.setdefault(row["suite"], []).append(row)
    folder.mkdir(parents=True, exist_ok=True)
    for suite, group in by_suite.items():
        with (folder / f"{suite}.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in group))


def read_rows(folder: Path) -> list[Row]:
    """All rows of a folder, each file in the order of its lines."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        rows += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return rows


def newest_rows(rows: Iterable[Row]) -> list[Row]:
    """The last row of each key, in the order of first appearance."""
    return list({key_of(row): row for row in rows}.values())


def measured_keys(rows: Iterable[Row], code: str) -> set[tuple[Any, ...]]:
    """Keys that are already measured for a state of the code; none for code that is not committed."""
    return set() if code.endswith("+dirty") else {key_of(row) for row in rows if row["code"] == code}

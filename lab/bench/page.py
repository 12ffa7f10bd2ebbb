"""Make the tables and plots of `docs/performance.md` from the newest results.

The page is prose with marked places; what stands between two marks is replaced, and nothing else is touched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fourierft.errors import DataError
from fourierft.tables import markdown_table
from lab.bench.figures import COMMANDS, figure_table
from lab.bench.goals import goal_table
from lab.bench.methods import BASELINES, LABELS
from lab.bench.suites import SUITES
from lab.ledger import Row, newest_rows, read_folder
from lab.pages import fill_page

SHOWN_COUNT = 1000  # the table of one layer keeps to the usual n; the maps show the others
EXPLAINED = {
    "s": "The first as a time, the others as multiples of it, with the 20th and 80th percentile over rounds.",
    "B": "In MiB.",
}


def write_page(results: Path, docs: Path) -> list[str]:
    """Replace the marked places of `docs/performance.md`, draw the plots to `docs/img`, and return what was written.

    Raises: DataError, if there are no results or no page, or the page marks a place that nothing fills.
    """
    rows = [row for row in newest_rows(read_folder(results)) if row["grid"] != "smoke"]
    if not rows:
        raise DataError(f"no results in {results}; run `python -m lab bench` first")
    page = docs / "performance.md"
    from lab.bench.plots import draw_plots

    images = draw_plots(rows, docs / "img")
    fill_page(page, places_of(rows, images))
    return [str(path) for path in (page, *(path for group in images.values() for path in group))]


def places_of(rows: Sequence[Row], images: Mapping[str, Sequence[Path]]) -> dict[str, Callable[[], str]]:
    """What fills each marked place, from rows and the plots of each suite."""
    places: dict[str, Callable[[], str]] = {
        "goals": lambda: markdown_table(goal_table(rows)),
        "machines": lambda: machines(rows),
    }
    places.update({name: functools.partial(section, name, rows, images.get(name, ())) for name in SUITES})
    places.update({name: functools.partial(figures, name, rows, images.get(name, ())) for name in COMMANDS})
    return places


def section(suite: str, rows: Sequence[Row], images: Sequence[Path], command: str = "") -> str:
    """Tables of one suite, one for each device, dtype and number of threads; then its plots.

    Without rows it names the command that makes them, the suite's if none is given.
    """
    shown = [row for row in rows if row["suite"] == suite]
    if suite == "layer":
        shown = [row for row in shown if row["shapes"]["n"] == SHOWN_COUNT]
    if not shown:
        return f"Not measured yet: `{command or f'python -m lab bench {suite}'}`."
    blocks = []
    for conditions in dict.fromkeys(conditions_of(row) for row in shown):
        group = [row for row in shown if conditions_of(row) == conditions]
        for unit in dict.fromkeys(row["unit"] for row in group):
            table, notes = suite_table([row for row in group if row["unit"] == unit])
            blocks += [f"{conditions}. {EXPLAINED[unit]}", markdown_table(table), *notes]
    return "\n\n".join([*blocks, *(f"![{path.stem}](img/{path.name})" for path in images)])


def figures(command: str, rows: Sequence[Row], images: Sequence[Path]) -> str:
    """Figures of a command, a table for each device and number of threads; then its plots."""
    shown = [row for row in rows if row["suite"] == command]
    if not shown:
        return f"Not measured yet: `{COMMANDS[command]}`."
    blocks = []
    for conditions in dict.fromkeys(conditions_of(row) for row in shown):
        group = [row for row in shown if conditions_of(row) == conditions]
        blocks += [f"{conditions}.", markdown_table(figure_table(group))]
    return "\n\n".join([*blocks, *(f"![{path.stem}](img/{path.name})" for path in images)])


def conditions_of(row: Row) -> str:
    """Under which a row was measured."""
    threads = "" if row["device"] == "cuda" else f", {row['threads']} threads"
    return f"{row['device_name']}{threads}, {row['dtype']}"


def suite_table(rows: Sequence[Row]) -> tuple[list[list[str]], list[str]]:
    """A line a case and a column a contender; and the notes that stand under the table."""
    contenders = [name for name in LABELS if any(row["contender"] == name for row in rows)]
    cells = {(row["case"], row["contender"]): row for row in rows}
    notes = list(dict.fromkeys(text for row in rows if (text := row.get("cannot") or row["note"])))
    table = [["", *(LABELS[name] for name in contenders)]]
    for case in dict.fromkeys(row["case"] for row in rows):
        table.append([case, *(_cell(cells.get((case, name)), notes) for name in contenders)])
    return table, [f"{_mark(i)} {text[0].upper()}{text[1:]}." for i, text in enumerate(notes)]


def _cell(row: Row | None, notes: list[str]) -> str:
    if row is None:
        return ""
    mark = _mark(notes.index(text)) if (text := row.get("cannot") or row["note"]) else ""
    if "cannot" in row:
        return f"can't {mark}"
    if row["unit"] == "B":
        return f"{row['median'] / 2**20:.2f} {mark}".strip()
    if row["contender"] in BASELINES:
        scale, unit = (1e3, "ms") if row["median"] > 1e-6 else (1e9, "ns")
        return f"{_three_digits(row['median'] * scale)} {unit} {mark}".strip()
    return f"{row['ratio_median']:.2f} ({row['ratio_p20']:.2f}-{row['ratio_p80']:.2f}) {mark}".strip()


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _mark(index: int) -> str:
    return f"[{chr(ord('a') + index)}]"


def machines(rows: Sequence[Row]) -> str:
    """Which machines, versions and commits the newest results come from."""
    table = [["suite", "device", "processor", "versions", "commit", "measured"]]
    seen: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        seen.setdefault((row["suite"], conditions_of(row)), []).append(row)
    for (suite, conditions), group in seen.items():
        last = max(group, key=lambda row: row["time"])
        versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
        commits = ", ".join(dict.fromkeys(row["commit"] for row in group))
        table.append([suite, conditions, last["cpu"], versions, commits, last["time"][:10]])
    return markdown_table(table)

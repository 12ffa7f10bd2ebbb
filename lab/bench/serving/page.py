"""The tables of `docs/serving.md`, from the newest results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fourierft.tables import markdown_table
from lab.bench.serving.record import SUITE
from lab.bench.serving.throughput import BASE
from lab.ledger import Row, newest_rows
from lab.pages import fill_page

Table = list[list[str]]
Cases = Mapping[str, Mapping[str, Row]]  # case -> figure -> row


def write_page(rows: Sequence[Row], page: Path) -> None:
    """Fill the marked place of the page.

    Raises: DataError, if the page has none.
    """
    fill_page(page, {SUITE: lambda: tables(rows)})


def tables(rows: Sequence[Row]) -> str:
    """Tables for each processor, number of threads and versions that the newest rows are of."""
    shown = [row for row in newest_rows(rows) if row["suite"] == SUITE]
    if not shown:
        return "Not measured yet: `python -m lab bench serving exact`, `throughput`, `burst`, `memory`."
    blocks = []
    for conditions in dict.fromkeys(map(conditions_of, shown)):
        cases: dict[str, dict[str, Row]] = {}
        for row in shown:
            if conditions_of(row) == conditions:
                cases.setdefault(row["case"], {})[row["contender"]] = row
        blocks.append(f"{conditions}.")
        for kind, make in KINDS.items():
            own = {case: cases[case] for case in cases if case.partition(",")[0] == kind}
            blocks += [markdown_table(make(own))] if own else []
        rest = {case: cases[case] for case in cases if case.partition(",")[0] not in KINDS}
        blocks += [markdown_table(rest_table(rest))] if rest else []
    return "\n\n".join(blocks)


def conditions_of(row: Row) -> str:
    """Under which a row was measured."""
    versions = row["versions"]
    vllm = f", vLLM {versions['vllm']}" if "vllm" in versions else ""
    return f"{row['cpu']}, {row['threads']} threads, {row['dtype']}{vllm}, PEFT {versions['peft']}"


def exact_table(cases: Cases) -> Table:
    """How many answers are right, a line a case."""
    table = [["requests", "answers that are stock PEFT's with the adapter alone", "tokens found in the cache"]]
    for case, rows in cases.items():
        right = f"{show(rows['right'])} of {show(rows['of'])}"
        cached = rows.get("tokens found in the cache")
        table.append([case.partition(", ")[2], right, "" if cached is None else show(cached)])
    return table


def throughput_table(cases: Cases) -> Table:
    """Tokens a second, and as a share of the base's, a line a server; then what it holds."""
    names = list(dict.fromkeys(name for rows in cases.values() for name in rows))
    units = {name: row["unit"] for rows in cases.values() for name, row in rows.items()}
    table = [["tokens a second", *names]]
    for case, rows in cases.items():
        line = [show(rows[name]) if name in rows else "" for name in names]
        for k, name in enumerate(names):
            if name in rows and name != BASE and units[name] == "tokens/s":
                line[k] = f"{line[k]} ({rows[name]['ratio_median']:.2f})"
        table.append([case.partition(", ")[2], *line])
    return table


def rest_table(cases: Cases) -> Table:
    """All figures of a case in a line."""
    return [["", ""], *([case, ", ".join(f"{n} {show(r)}" for n, r in rows.items())] for case, rows in cases.items())]


def show(row: Row) -> str:
    """A number for a person, bytes in MB."""
    value, unit = row["median"], row["unit"]
    if unit == "B":
        return f"{value / 1e6:,.0f} MB"
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return digits if unit == "tokens/s" else f"{digits} {unit}".strip()


KINDS: Mapping[str, Callable[[Cases], Table]] = {"exact": exact_table, "throughput": throughput_table}

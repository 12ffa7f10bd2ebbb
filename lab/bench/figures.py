"""Figures: numbers that commands of their own measure, as rows beside those of the suites, and their table.

A figure is a number and its unit. Its row has the figure's name where a suite's row has the contender.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.bench.harness import Settings, spread
from lab.bench.machine import describe_run
from lab.ledger import Row

Figures = Mapping[
    str, tuple[float, str]
]  # name -> number, unit: "s", "ms", "B", "" for counts and shares, or any other
COMMANDS = {"store": "python -m lab bench store", "zipf": "python -m lab bench zipf"}


def case_name(adapters: int, model: str, dtype: str, capacity: int | None = None) -> str:
    """What is measured: a store of so many adapters, and a bank over it."""
    return f"{adapters:,} adapters of {model}, {dtype}" + (f", a bank of {capacity:,}" if capacity else "")


def killed_name(kills: int) -> str:
    """So many writing processes, killed at random moments."""
    return f"{kills:,} writers killed"


def figure_rows(command: str, case: str, figures: Figures, settings: Settings, n: int) -> list[Row]:
    """A row a figure.

    Args:
        command: one of COMMANDS.
        case: what was measured.
        figures: all of it.
        settings: of the run.
        n: coefficients of a layer.
    """
    described = {"suite": command, "case": case, "grid": settings.grid, "shapes": {"n": n}, **describe_run(settings)}
    measured: dict[str, Any] = {"rounds": 1, **spread([], "ratio_"), "error": None, "note": ""}
    return [
        {**described, **measured, "contender": name, "unit": unit, **spread([float(value)], "")}
        for name, (value, unit) in figures.items()
    ]


def figure_table(rows: Sequence[Row]) -> list[list[str]]:
    """A line a figure and a column a case; a header first."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    shown = {(row["contender"], row["case"]): show(row["median"], row["unit"]) for row in rows}
    names = dict.fromkeys(row["contender"] for row in rows)
    return [["", *cases], *([name, *(shown.get((name, case), "") for case in cases)] for name in names)]


def show(value: float, unit: str) -> str:
    """A number for a person: three digits, bytes in MiB."""
    if unit == "B":
        value, unit = value / 2**20, "MiB"
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{digits} {unit}".strip()

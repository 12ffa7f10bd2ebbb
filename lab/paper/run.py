"""Run an experiment and write its page: what `python -m lab paper` calls."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from fourierft.errors import ConfigError
from fourierft.tables import markdown_table
from fourierft.training.output import read_json_lines
from lab.ledger import Ledger, Row, devices_of, versions_of
from lab.pages import fill_page, write_page
from lab.paper.experiment import Choice, Experiment

MODULES = {
    "table1": "counts",
    "table2": "glue",
    "table3": "generation",
    "table4": "quoted",
    "table5": "images",
    "table6": "ablation",
    "table13": "quoted",
    "fig3": "bands",
    "fig4": "scaling",
    "fig5": "frequency",
    "fig6": "curves",
    "fig7": "expressiveness",
}
BEFORE, NOW = "fourierft reproduce", "python -m lab paper"  # older rows have the command by the name it had


def find_experiment(name: str) -> Experiment:
    """The experiment of a table or figure.

    Raises: ConfigError, if there is none of that name.
    """
    if name not in MODULES:
        near = difflib.get_close_matches(name, MODULES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(MODULES)}"
        raise ConfigError(f"{name} is none of the paper's tables and figures that can be run; {hint}")
    module = importlib.import_module(f"lab.paper.{MODULES[name]}")
    return next(one for one in module.EXPERIMENTS if one.name == name)


def reproduce(
    experiment: Experiment,
    choice: Choice,
    command: str,
    results: Path,
    pages: Path,
    tell: Callable[[str], None] = print,
) -> Path:
    """Do the runs that are missing, and write the experiment's page.

    Args:
        command: what was asked for, written into every row.
        results: folder of the JSON lines, a file an experiment.
        pages: folder of the page and its plots.

    Returns: the page.
    """
    file = results / f"{experiment.name}.jsonl"
    stamp = {"experiment": experiment.name, "stand_in": choice.is_stand_in, "command": command}
    experiment.run(choice, Ledger(file, stamp, tell))
    return make_page(experiment, read_json_lines(file), pages)


def list_runs(experiment: Experiment, choice: Choice) -> str:
    """The runs of a choice, a line each, in their order."""
    return "\n".join(f"{number:4}  {name}" for number, name in enumerate(experiment.names(choice), start=1))


def write_pages(results: Path, pages: Path) -> list[Path]:
    """Make every experiment's page anew from its results."""
    return [make_page(find_experiment(name), read_json_lines(results / f"{name}.jsonl"), pages) for name in MODULES]


def make_page(experiment: Experiment, rows: Sequence[Row], pages: Path) -> Path:
    """Write NAME.md and the plots it shows."""
    pages.mkdir(parents=True, exist_ok=True)
    blocks = [f"# {experiment.title}", *experiment.page(rows, pages), *_origin(rows)]
    return write_page(pages / f"{experiment.name}.md", blocks)


def _origin(rows: Sequence[Row]) -> list[str]:
    """What made the rows: commands, devices and versions."""
    if not rows:
        return []
    commands = list(dict.fromkeys(row["command"].replace(BEFORE, NOW) for row in rows))
    devices = devices_of(rows)
    where = f"; on {devices}" if devices else ""
    return [
        f"{len(rows)} rows, made by",
        "\n".join(f"    {command}" for command in commands),
        f"with {versions_of(rows)}{where}.",
    ]


def write_overview(results: Path, overview: Path) -> None:
    """Fill the marked place of the overview with what was run where."""
    table = [("experiment", "on the paper's models", "stand-in", "command")]
    for name in MODULES:
        experiment, rows = find_experiment(name), read_json_lines(results / f"{name}.jsonl")
        stand_ins = [row for row in rows if row["stand_in"]]
        table.append(
            (
                f"[{experiment.title}](reproduction/{name}.md)",
                _status(len(rows) - len(stand_ins), experiment.needs),
                _status(len(stand_ins), "") if experiment.stand_ins else "",
                f"`python -m lab paper {name}`",
            )
        )
    fill_page(overview, {"runs": lambda: markdown_table(table)})


def _status(count: int, needs: str) -> str:
    if count:
        return f"{count} rows"
    return f"not run here: needs {needs}" if needs else "not run"

"""Do preferences teach a small model, by DPO and by KTO, and a FourierFT adapter as much as LoRA?

    python -m lab trials preferences
    python -m lab trials preferences --page

Pairs made of WordNet: a noun, its gloss as the chosen answer, the gloss of another noun as the rejected. Each run adds
a line to lab/trials/results/preferences.jsonl and is not repeated. Writes docs/quality/preferences.md. About
six minutes a run on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from fourierft.tables import align_columns
from fourierft.training.comparison.sources import find_asset_model, read_glosses
from fourierft.training.run import train
from fourierft.training.settings import build_arguments
from lab import pages
from lab.folders import QUALITY
from lab.ledger import Ledger, Row, versions_of

RESULTS, PAGE = Path(__file__).with_name("results") / "preferences.jsonl", QUALITY / "preferences.md"
TRAINED, HELD_OUT, STEPS, RATE = 120, 60, 30, 5e-4
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPO, FourierFT n=340": ("pairs", {"method": "fourierft", "n_frequency": 340}),
    "DPO, LoRA r=8": ("pairs", {"method": "lora:8"}),
    "KTO, FourierFT n=340": ("feedback", {"method": "fourierft", "n_frequency": 340}),
}
TEXT = f"""\
# Preferences

The prompt asks SmolLM2-135M-Instruct what a noun of WordNet is. The chosen answer is its gloss, the rejected one that
of another noun. Training takes {TRAINED} pairs, or as many single answers with a label, in {STEPS} steps of four at
learning rate {RATE:g}, on all linear layers, with beta 0.1 and one seed. The table shows, on {HELD_OUT} other nouns,
how often the right gloss has the larger reward (untrained: .500), and by how much. Made by
`python -m lab trials preferences`.
"""


def make_pairs(count: int) -> list[dict[str, str]]:
    """The same pairs everywhere."""
    glosses = [row for row in read_glosses() if row["mr"].startswith("name[")]
    drawn = random.Random(0).sample(glosses, 2 * count)
    return [
        {
            "prompt": f"What is meant by {right['mr'].partition('[')[2].partition(']')[0]}?",
            "chosen": right["ref"],
            "rejected": wrong["ref"],
        }
        for right, wrong in zip(drawn[:count], drawn[count:], strict=True)
    ]


def as_feedback(pairs: Sequence[Mapping[str, str]], both: bool) -> list[dict[str, Any]]:
    """Single answers with a label: both of each pair, or one, in turn."""
    made = [
        {"prompt": pair["prompt"], "completion": pair[part], "label": part == "chosen"}
        for pair in pairs
        for part in ("chosen", "rejected")
    ]
    return made if both else [row for k, row in enumerate(made) if k % 4 in (0, 3)]


def measure(kind: str, settings: Mapping[str, Any], model: Path, sizes: tuple[int, int], steps: int) -> dict[str, Any]:
    """Train one adapter; its metrics on rows held out, and the numbers it has."""
    pairs = make_pairs(sum(sizes))
    parts: dict[str, list[Any]] = {"train": pairs[: sizes[0]], "validation": pairs[sizes[0] :]}
    if kind == "feedback":
        parts = {name: as_feedback(rows, name == "validation") for name, rows in parts.items()}
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(scratch)
        files = {}
        for name, rows in parts.items():
            files[f"{name}_file"] = str(folder / f"{name}.jsonl")
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given: dict[str, Any] = {"model_name_or_path": str(model), "task": "preferences", **files}
        given["output_dir"] = str(folder / "out")
        given |= {"max_steps": steps, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 10}
        given |= {"learning_rate": RATE, "eval_strategy": "no", "save_strategy": "no", "use_cpu": True, "seed": 0}
        metrics = train(build_arguments({**given, "disable_tqdm": True, **settings}))
    names = ("preference_accuracy", "reward_margin")
    return {**{name: metrics["eval"][name] for name in names}, "trained": metrics["parameters"]["adapter"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", action="store_true", help="run nothing, only make the page again")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, print the table, write the page."""
    datasets.disable_progress_bars()
    ledger = Ledger(RESULTS, {"steps": STEPS, "learning_rate": RATE, "seed": 0})
    if not arguments.page:
        model = find_asset_model("smollm2")
        for cell in ledger.missing([{"run": name} for name in RUNS], None):
            kind, settings = RUNS[cell["run"]]
            ledger.add(cell, measure(kind, settings, model, (TRAINED, HELD_OUT), STEPS))
    write_page(ledger.rows())
    return 0


def table_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Headings, and a row a run, as text."""
    cells: list[tuple[str, ...]] = [("run", "trained", "accuracy", "margin of rewards")]
    for row in rows:
        accuracy, margin = f"{row['preference_accuracy']:.3f}".lstrip("0"), f"{row['reward_margin']:.2f}"
        cells.append((row["run"], f"{row['trained']:,}", accuracy, margin))
    return cells


def write_page(rows: Sequence[Row]) -> None:
    """Print the table of the rows and write the page."""
    cells = table_rows(rows)
    pages.write_page(PAGE, [TEXT, cells, f"{versions_of(rows)}."])
    print(f"{align_columns(cells)}\n\nwritten to {PAGE}")

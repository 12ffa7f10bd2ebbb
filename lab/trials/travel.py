"""How far do steps of LoRA and of FourierFT move a layer at one learning rate?

    python -m lab trials travel

Trains on the tasks of `fourierft compare`, at learning rate 3e-3 and without a schedule, and takes the spectral norm
of each adapted layer's dW after one step and after twenty; the median over layers, over the learning rate. Each run
adds a line to lab/trials/results/travel.jsonl and is not repeated. Writes docs/quality/travel.md. About
six minutes on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from fourierft.tables import align_columns
from fourierft.training.comparison.grid import QUIET, run_settings
from fourierft.training.comparison.tasks import Run, Task, read_task
from fourierft.training.plan import plan_training
from fourierft.training.run import build_trainer
from fourierft.training.settings import build_arguments
from lab import pages
from lab.folders import COMPARISONS, QUALITY
from lab.ledger import Ledger, Row, versions_of
from lab.trials.variants import BEST_FORM, RATE

RESULTS, PAGE = Path(__file__).with_name("results") / "travel.jsonl", QUALITY / "travel.md"
STEPS = (1, 20)
METHODS = ("lora:8", "lora:8,layers=all", "fourierft:1000", "fourierft:6144")
TEXT = f"""\
# How far a step goes

Spectral norm of a layer's dW after {STEPS[0]} and after {STEPS[1]} steps of Adam at learning rate {RATE:g},
divided by that rate; median over the adapted layers. The adapters are on query and value, or on all linear layers if
the row says so. Made by `python -m lab trials travel`.
"""


def travel(task: Task, run: Run) -> list[float]:
    """The median norm over the learning rate, after each of STEPS."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        given = run_settings(run, {**QUIET, **task.prepare()}, Path(scratch) / "run")
        arguments = build_arguments(given)
        prepared = plan_training(arguments)
        trainer = build_trainer(prepared)
        model, optimizer = prepared.trainable.model.train(), trainer.create_optimizer()
        found = []
        for step, batch in enumerate(itertools.islice(_batches(trainer), STEPS[-1]), start=1):
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step in STEPS:
                found.append(median(_norms(model)) / run.learning_rate)
    return found


def _batches(trainer: Any) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        for batch in trainer.get_train_dataloader():
            yield trainer._prepare_inputs(batch)


@torch.no_grad()
def _norms(model: torch.nn.Module) -> list[float]:
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    deltas = [layer.get_delta_weight("default") for layer in layers if hasattr(layer, "get_delta_weight")]
    return [float(torch.linalg.matrix_norm(delta.float(), 2)) for delta in deltas]


def run(arguments: argparse.Namespace) -> int:
    """Train what has no row yet, print the table, write the page."""
    datasets.disable_progress_bars()
    runs = {}
    for name, best in BEST_FORM.items():
        task = read_task(COMPARISONS / f"{name}.yaml").change([*METHODS, best], [RATE], [0])
        runs.update({(name, run.method.title): (task, run) for run in task.runs()})
    ledger = Ledger(RESULTS, {"learning_rate": RATE})
    for cell in ledger.missing([{"task": name, "method": title} for name, title in runs], None):
        norms = travel(*runs[cell["task"], cell["method"]])
        ledger.add(cell, {"norms": dict(zip(map(str, STEPS), norms, strict=True))})
    write_page(ledger.rows())
    return 0


def write_page(rows: Sequence[Row]) -> None:
    """Print the table of the rows and write the page."""
    cells = [("task", "method", *(f"{step} step{'s' * (step > 1)}" for step in STEPS))]
    cells += [(row["task"], row["method"], *(f"{row['norms'][str(step)]:.1f}" for step in STEPS)) for row in rows]
    pages.write_page(PAGE, [TEXT, cells, f"{versions_of(rows)}."])
    print(f"{align_columns(cells)}\n\nwritten to {PAGE}")

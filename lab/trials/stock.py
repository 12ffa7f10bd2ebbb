"""Which settings make stock PEFT's FourierFT learn? Trains with PEFT's own classes, those of this package left out.

    python -m lab trials stock
    python -m lab trials stock --page

The task is that of recipes/compare/instructions.yaml. Each run adds a line to lab/trials/results/stock.jsonl; a run
that has one is not repeated. Prints the table and writes docs/quality/stock-peft.md. The last row takes some ten
minutes on one core, as stock PEFT builds each update anew in every pass; the others two each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import FourierFTConfig as StockConfig
from peft.tuners.fourierft import FourierFTModel as StockModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from fourierft.errors import DataError
from fourierft.tables import align_columns
from fourierft.training.comparison.grid import run_tasks
from fourierft.training.comparison.results import BASELINE, Row, mean_score, read_rows
from fourierft.training.comparison.sources import find_asset_model
from fourierft.training.comparison.tasks import Task, read_task
from fourierft.training.output import read_json_lines
from fourierft.tuner.registration import substituted
from fourierft.tuner.scaling import auto_scaling, find_width
from lab.folders import COMPARISONS, QUALITY
from lab.ledger import versions_of
from lab.pages import write_page

RESULTS = Path(__file__).with_name("results") / "stock.jsonl"
TASK, N = "instructions", 340
HEADS = ("settings of peft.FourierFTConfig", "layers", "rate", "loss", "of LoRA r=8's fall")
TEXT = """\
# If you stay with stock PEFT

SmolLM2-135M-Instruct on short instructions, trained with PEFT's own classes. The table shows the loss per token of
held-out answers (lower is better), and the fall as a share of that of LoRA r=8 on all linear layers at its best rate.
The first row has the settings of PEFT's public comparison. The last has one scaling for all layers, the geometric mean
of what `scaling="auto"` would take, as in recipes/peft-comparison. Made by `python -m lab trials stock`.
"""


@dataclass(frozen=True)
class Setting:
    """One row.

    Attributes:
        told: for people.
        spec: the method, as `fourierft compare` writes it.
        rate: the learning rate.
    """

    told: str
    spec: str
    rate: float


def settings() -> list[Setting]:
    """What is run, the settings of the public comparison first."""
    one = round(mean_scaling(empty_model(find_asset_model("smollm2")), N), -1)
    return [
        Setting("n=1000, scaling 300, normal start", "fourierft:1000,scaling=300,init_weights=false", 1e-4),
        Setting("n=1000, scaling 300, zero start", "fourierft:1000,scaling=300,init_weights=true", 1e-4),
        Setting("n=1000, scaling 300, zero start", "fourierft:1000,scaling=300,init_weights=true", 3e-2),
        Setting(
            f"n={N}, scaling {one:g}, zero start", f"fourierft:{N},layers=all,scaling={one:g},init_weights=true", 1e-3
        ),
    ]


def empty_model(folder: Path) -> PreTrainedModel:
    """A causal language model of shapes alone."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


def mean_scaling(model: PreTrainedModel, n_frequency: int) -> float:
    """The geometric mean of the scaling that "auto" gives to every linear layer of a model but its head."""
    head, width = model.get_output_embeddings(), find_width(model)
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear) and part is not head]
    scales = [auto_scaling(layer.out_features, layer.in_features, n_frequency, width) for layer in layers]
    return math.exp(sum(map(math.log, scales)) / len(scales))


@contextmanager
def stock_classes() -> Iterator[None]:
    """PEFT trains FourierFT adapters with its own classes while this lasts, though ours be enabled."""
    own: Any = (StockConfig, StockModel)
    with substituted(*own):
        yield


def tasks(chosen: Sequence[Setting]) -> list[Task]:
    """One task a row."""
    task = read_task(COMPARISONS / f"{TASK}.yaml")
    return [task.change([one.spec], [one.rate], [0]) for one in chosen]


def table_rows(chosen: Sequence[Setting], rows: Sequence[Row], compared: Sequence[Row]) -> list[tuple[str, ...]]:
    """Headings, the model as it is, and a row a setting that was run, as text.

    Args:
        rows: with stock classes.
        compared: of `fourierft compare` on the task.

    Raises: DataError, if they hold no untrained model or no LoRA r=8 on all layers.
    """
    before = mean_score([row for row in compared if row["method"] == BASELINE])
    lora = [row["score"] for row in compared if row["method"] == "lora:8,layers=all" and row["score"] is not None]
    if before is None or not lora:
        raise DataError(
            f"docs/quality/{TASK}/runs.jsonl has no run of {BASELINE} or of lora:8,layers=all; take it back"
        )
    cells: list[tuple[str, ...]] = [HEADS, ("untrained", "-", "-", f"{before:.3f}", "-")]
    for one in chosen:
        found = [row for row in rows if (row["method"], row["learning_rate"]) == (one.spec, one.rate)]
        score = mean_score(found)
        if found:
            layers = "all linear" if "layers=all" in one.spec else "query and value"
            share = "-" if score is None else f"{(before - score) / (before - min(lora)):.0%}"
            cells.append((one.told, layers, f"{one.rate:g}", "diverged" if score is None else f"{score:.3f}", share))
    return cells


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", action="store_true", help="run nothing, only make the page again")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, print the table, write the page.

    Raises: DataError, as `table_rows`.
    """
    datasets.disable_progress_bars()
    chosen = settings()
    if not arguments.page:
        with stock_classes():
            run_tasks(tasks(chosen), RESULTS, stamp={"classes": "peft"}, tell=partial(print, flush=True))
    rows = read_json_lines(RESULTS)
    cells = table_rows(chosen, rows, read_rows(QUALITY / TASK))
    page = write_page(QUALITY / "stock-peft.md", [TEXT, cells, f"One seed; {versions_of(rows)}."])
    print(f"{align_columns(cells)}\n\nwritten to {page}")
    return 0

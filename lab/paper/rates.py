"""The paper's settings in our words: at which learning rate would `scaling="auto"` take the paper's own step?

    python -m lab paper rates

With Adam alpha and learning rate act through their product alone, once the start is given. The paper tuned both for
models 768 to 5120 wide; alpha times rate over the alpha of "auto" is the rate that moves a layer as far. Beside it
stand LoRA's rates for the same task and model, where the paper (LLaMA) or LoRA's own (GLUE) has them, brought to
r = 8, alpha = 16: a first step of LoRA moves a layer in proportion to rate * alpha / sqrt(r). Prints a table, and
writes it to docs/quality/paper-rates.md.
"""

from __future__ import annotations

import argparse
import math

from fourierft.tuner.paper import PAPER_RUNS
from fourierft.tuner.scaling import auto_scaling
from lab.folders import QUALITY
from lab.pages import write_page
from lab.paper.glue import LORA_RATES
from lab.paper.published import read_paper

PAGE = QUALITY / "paper-rates.md"
WIDTHS = {"llama-1-7b": 4096, "llama-1-13b": 5120}  # of the models that Table 1 does not list
LORA_ALPHA = {"roberta-base": 8.0, "roberta-large": 16.0}  # r = 8; Table 9 of LoRA's paper
TEXT = """\
# The paper's settings as rates of `scaling="auto"`

The table gives the learning rate at which `scaling="auto"` moves a layer as far in each step as the paper's alpha and
learning rate do. Beside it is LoRA's rate for the same task and model, converted to r = 8, alpha = 16. Made by
`python -m lab paper rates`.
"""
Cells = tuple[str, ...]


def auto_rate(task: str, model: str, width: int) -> float:
    """The rate at which "auto" takes the paper's step in a layer width x width."""
    run = PAPER_RUNS[task, model]
    return run.learning_rate * run.scaling / auto_scaling(width, width, run.n_frequency, width)


def lora_rate(task: str, model: str) -> float | None:
    """LoRA's rate, as if r were 8 and alpha 16; None where neither paper has one."""
    if model in LORA_ALPHA:
        return LORA_RATES[model][task] * LORA_ALPHA[model] / 16
    if task != "instructions":
        return None
    lora = read_paper()["table11"]["lora"]
    return float(lora["lr"] * (lora["alpha"] / math.sqrt(lora["rank"])) / (16 / math.sqrt(8)))


def table_rows() -> list[Cells]:
    """Headings, and a row a task and model of the paper."""
    counts = read_paper()["table1"]
    widths = {**WIDTHS, **{model: counts[model]["width"] for _, model in PAPER_RUNS if model in counts}}
    cells: list[Cells] = [("model", "width", "task", "n", "alpha x rate", "rate of auto", "LoRA's rate", "ratio")]
    for (task, model), run in PAPER_RUNS.items():
        found, lora = auto_rate(task, model, widths[model]), lora_rate(task, model)
        beside = ("-", "-") if lora is None else (f"{lora:.1e}", f"{found / lora:.2f}")
        product = f"{run.scaling * run.learning_rate:.3g}"
        cells.append((model, str(widths[model]), task, str(run.n_frequency), product, f"{found:.1e}", *beside))
    return cells


def run(arguments: argparse.Namespace) -> int:
    print(write_page(PAGE, [TEXT, table_rows()]).read_text(encoding="utf-8"))
    return 0

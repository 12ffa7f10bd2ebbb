"""Tables 4 and 13: the paper's numbers, and the commands whose results belong beside them.

Table 4's scores are given by GPT-4, a paid judge; Table 13's by FID to images that the paper does not name. Neither is
one number of one training, so their runs are left to the commands that train and sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fourierft.errors import ConfigError
from fourierft.tables import markdown_table
from fourierft.training.comparison.results import Row
from lab.ledger import Ledger
from lab.paper.experiment import Choice, Experiment
from lab.paper.published import read_paper

DREAMBOOTH = "fourierft dreambooth --config recipes/dreambooth/sd15.yaml"
INSTRUCTIONS = "fourierft train --task answers"


def refuse(name: str, command: str) -> Callable[[Choice, Ledger], None]:
    """What says which command to use."""

    def run(choice: Choice, ledger: Ledger) -> None:
        raise ConfigError(f"{name} has no runs of its own; train with `{command}`, and see docs/reproduction/{name}.md")

    return run


def names(choice: Choice) -> list[str]:
    return []


def table4(rows: Sequence[Row], folder: Path) -> list[str]:
    lines: list[Sequence[str]] = [("model", "method", "MT-Bench", "Vicuna")]
    titles = {"lora_all": "LoRA r=64, all layers", "lora_qv": "LoRA r=64, q and v", "fourierft": "FourierFT n=1000"}
    for model, methods in read_paper()["table4"].items():
        lines += [(model, titles[key], *(f"{score:.2f}" for score in scores)) for key, scores in methods.items()]
    return [
        "The paper's numbers: answers of models tuned on Alpaca, scored from 1 to 10 by GPT-4. Not run here: the "
        f"models need weights, the judge a paid interface. `{INSTRUCTIONS}` tunes a causal model on instructions.",
        markdown_table(lines),
    ]


def table13(rows: Sequence[Row], folder: Path) -> list[str]:
    table = read_paper()["table13"]
    titles = {"none": "not tuned", "full": "full", "lora_12M": "LoRA, 12.4M", "fourierft_190K": "FourierFT, 0.19M"}
    lines = [("method", "FID"), *((titles[key], f"{score:.1f}") for key, score in table["scores"].items())]
    lines.append(("DreamBooth on Stable Diffusion 1.1, quoted", f"{table['quoted']['dreambooth_sd11']:.1f}"))
    return [
        "The paper's numbers, Stable Diffusion 1.5; lower is better. It names no photos, prompts or images that the "
        f"FID is of. Not run here: the model needs weights. `{DREAMBOOTH}` trains, `fourierft dreambooth sample` "
        "makes images, `fourierft dreambooth score` takes FID, DINO and CLIP of them.",
        markdown_table(lines),
    ]


EXPERIMENTS = (
    Experiment(
        "table4",
        "Table 4: instruction tuning",
        refuse("table4", INSTRUCTIONS),
        table4,
        names,
        needs="LLaMA and a judge",
    ),
    Experiment(
        "table13",
        "Table 13: DreamBooth",
        refuse("table13", DREAMBOOTH),
        table13,
        names,
        needs="Stable Diffusion 1.5",
    ),
)

"""The `fourierft` command: one sub-command per module of this package.

A command `NAME` is the module `fourierft/cli/NAME.py`, named with one line of help in `COMMANDS` below; `frame.py` says
what it has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fourierft.cli import frame

COMMANDS = {
    "quickstart": "fine-tune a real model in four ways, compare them, leave a page to look at",
    "train": "fine-tune a model on a data set: FourierFT, LoRA, head only, full, or any PEFT config",
    "evaluate": "score what `train` wrote on any data set",
    "generate": "let a model answer a prompt, a file of prompts, or you",
    "answers": "answer the questions of MT-Bench or Vicuna for FastChat's judge",
    "compare": "compare methods on one task, each over a grid of learning rates and seeds",
    "merge": "add an adapter to its base model and save the result",
    "export": "write an adapter for another program, and check it there: LoRA, ONNX, a page in the browser",
    "inspect": "look into an adapter or a store: layers, bytes, norms, a picture of the spectrum or a map",
    "store": "keep thousands of adapters of one base in one file: add, get, alias, rm, verify, stats and more",
    "fleet": "train thousands of adapters of one base together, each row of a batch its own; a demo",
    "serve": "serve a fleet through vLLM: an OpenAI-compatible server whose `model` names an adapter",
    "blend": "add adapters of a store up into a new one",
    "dreambooth": "teach Stable Diffusion a subject from a few photos, make images of it, score them",
}

TRAININGS = ("quickstart", "train", "compare", "fleet", "dreambooth")  # go on when nobody reads
MOVED = {
    "benchmark": ("python -m lab bench", "in a checkout of the repository"),
    "reproduce": ("python -m lab paper", "in a checkout of the repository"),
}

EPILOG = """\
Start here:
  fourierft quickstart
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir adapter
  fourierft evaluate adapter --test_file test.csv

`fourierft COMMAND --help` explains a command, with examples.
"""


def program() -> frame.Program:
    return frame.Program(
        name="fourierft",
        description="Fine-tune, look into and ship models with a few spectral coefficients a layer.",
        epilog=EPILOG,
        commands=COMMANDS,
        module="fourierft.cli.{}".format,
        lasting=TRAININGS,
        moved=MOVED,
    )


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of the command in it alone filled in."""
    return frame.build_parser(program(), argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 wrong input, 130 interrupted, 141 nobody reads."""
    return frame.run_program(program(), argv)


if __name__ == "__main__":
    sys.exit(main())

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
    "quickstart": "train a real model on real data in four ways, and compare the results on a page",
    "train": "fine-tune a model on a data set, by FourierFT, LoRA or any other PEFT method",
    "evaluate": "score a trained adapter on a data set",
    "generate": "answer a prompt or a file of prompts, or chat with the model",
    "answers": "answer the questions of MT-Bench or Vicuna for FastChat's judge",
    "compare": "compare methods on one task, each over a grid of learning rates and seeds",
    "merge": "merge an adapter into its base model and save the full model",
    "export": "convert an adapter to LoRA, ONNX or a web page, and check the result",
    "inspect": "show the layers, bytes and norms of an adapter or a store, and draw them",
    "store": "keep thousands of adapters of one base model in one file",
    "fleet": "train many adapters of one base model together",
    "serve": "serve the adapters of a store with vLLM, through OpenAI's API",
    "blend": "make a new adapter as the weighted sum of others",
    "dreambooth": "teach Stable Diffusion a subject from a few photos",
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

`fourierft COMMAND --help` explains each command with examples.
"""


def program() -> frame.Program:
    return frame.Program(
        name="fourierft",
        description="Train, store and serve FourierFT adapters: fine-tunes of a few hundred numbers for each layer.",
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

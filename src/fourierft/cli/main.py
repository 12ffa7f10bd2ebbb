"""The `fourierft` command: one sub-command per module of this package.

A command `NAME` is the module `fourierft/cli/NAME.py`, named with one line of help in `COMMANDS` below. It has

- a docstring: the description `fourierft NAME --help` shows, as written, examples included;
- `add_arguments(parser: argparse.ArgumentParser) -> None`: declares its arguments;
- `run(arguments: argparse.Namespace) -> int`: does the work by calling what lies below, returns the exit status;
- optionally `parents(asks_help: bool) -> list[argparse.ArgumentParser]`: parsers whose arguments it takes over.

Only the module of the command that was asked for is imported, and a command module imports what is heavy inside `run`.
`run` raises `FourierFTError` for what the user can mend: it is printed as `fourierft: error: ...`, and the status is 2.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from fourierft import __version__
from fourierft.cli.locales import check_words, print_anything, use_utf8
from fourierft.cli.parser import CommandParser
from fourierft.cli.streams import READER_GONE, drop_unread, outliving_readers
from fourierft.errors import FourierFTError
from fourierft.extras import check_hosts

COMMANDS = {
    "quickstart": "fine-tune a real model in four ways, compare them, leave a page to look at",
    "train": "fine-tune a model on a data set: FourierFT, LoRA, head only, full, or any PEFT config",
    "evaluate": "score what `train` wrote on any data set",
    "generate": "let a model answer a prompt, a file of prompts, or you",
    "answers": "answer the questions of MT-Bench or Vicuna for FastChat's judge",
    "compare": "compare methods on one task, each over a grid of learning rates and seeds",
    "reproduce": "run a table or figure of the paper, and set its numbers and ours side by side",
    "merge": "add an adapter to its base model and save the result",
    "inspect": "look into an adapter or a store: layers, bytes, norms, a picture of the spectrum or a map",
    "store": "keep thousands of adapters of one base in one file: add, get, alias, rm, verify, stats and more",
    "fleet": "train thousands of adapters of one base together, each row of a batch its own; a demo",
    "serve": "serve a fleet through vLLM: an OpenAI-compatible server whose `model` names an adapter",
    "blend": "add adapters of a store up into a new one",
    "dreambooth": "teach Stable Diffusion a subject from a few photos, make images of it, score them",
    "benchmark": "time the kernels and training steps on this machine",
}

TRAININGS = ("quickstart", "train", "compare", "reproduce", "fleet", "dreambooth")  # go on when nobody reads
CHATTY = ("torchao", "bitsandbytes", "torch.utils._pytree")  # warn of what a CPU lacks whenever PEFT imports them

EPILOG = """\
Start here:
  fourierft quickstart
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir adapter
  fourierft evaluate adapter --test_file test.csv

`fourierft COMMAND --help` explains a command, with examples.
"""


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of the command in it alone filled in."""
    command = argv[0] if argv else None
    asks_help = "-h" in argv or "--help" in argv
    formatter = argparse.RawDescriptionHelpFormatter
    parser = CommandParser(
        prog="fourierft",
        description="Fine-tune, look into and ship models with a few spectral coefficients a layer.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"fourierft {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=text)
            continue
        module = importlib.import_module(f"fourierft.cli.{name}")
        parents = module.parents(asks_help) if hasattr(module, "parents") else []
        subparser = commands.add_parser(
            name, help=text, description=module.__doc__, parents=parents, formatter_class=formatter
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 wrong input, 130 interrupted, 141 nobody reads."""
    if argv is None:
        use_utf8()
    print_anything(sys.stdout, sys.stderr)
    argv = list(sys.argv[1:] if argv is None else argv)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where its errors can be told
    except BrokenPipeError:
        if not drop_unread():
            raise
        return READER_GONE


def _run(argv: Sequence[str]) -> int:
    try:
        try:
            check_words(argv)
            arguments = build_parser(argv).parse_args(argv)
            with outliving_readers() if arguments.command in TRAININGS else nullcontext():
                return int(arguments.run(arguments))
        except ImportError:
            check_hosts()  # says why, if PEFT or transformers is of another release
            raise
    except FourierFTError as error:
        print(f"fourierft: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fourierft: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        from fourierft.adapters.place import explain

        reason = explain(error)
        if reason is None:
            raise
        print(f"fourierft: error: {reason}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""A parser of a command: what it does not know is told under its own usage, with the nearest that it does know."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from fourierft.training.arguments import BASE, BASE_ALIASES

WIDEST = 100  # columns of a description on a wide terminal


class HelpFormatter(argparse.HelpFormatter):
    """argparse's, but a description keeps its paragraphs, and its examples as they are: what has an indented line."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = [
            "\n".join(indent + line for line in paragraph.splitlines())
            if re.search(r"^[ -]", paragraph, re.MULTILINE)
            else textwrap.fill(
                paragraph, min(width, WIDEST), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
            )
            for paragraph in re.split(r"\n{2,}", text.strip("\n"))
        ]
        return "\n\n".join(paragraphs)


class CommandParser(argparse.ArgumentParser):
    """argparse's parser, for `fourierft`, its commands and their actions alike; flags are written out in full."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, "formatter_class": HelpFormatter, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """argparse's, but a flag that is unknown is an error here, of the parser that it was meant for."""
        own = args or []
        if self._subparsers is not None:  # what follows the command is its parser's
            own = list(takewhile(lambda word: word.startswith("-"), own))
        self._refuse(find_unknown(own, self._option_string_actions))  # before what is missing, which it may stand for
        namespace, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown)
        return namespace, unknown

    def _refuse(self, words: Sequence[str]) -> None:
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        if flags:
            hint = find_nearest(flags[0], self._option_string_actions) or f"see `{self.prog} --help`"
            self.error(f"{flags[0]} is unknown; {hint}")
        if words:
            self.error(f"unexpected argument {' '.join(words)}; see `{self.prog} --help`")

    def error(self, message: str) -> NoReturn:
        """argparse's, but where a command is missing, those that there are stand in its message."""
        group = self._subparsers
        action = group._group_actions[0] if group is not None else None
        if action is not None and action.choices and message.endswith(f": {action.metavar}"):
            message = f"{action.metavar} is missing; use one of {', '.join(map(str, action.choices))}"
        super().error(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            hint = find_nearest(str(value), known) or f"use one of {', '.join(known)}"
            raise argparse.ArgumentError(action, f"{value} is unknown; {hint}")


def find_unknown(words: Sequence[str], known: Iterable[str]) -> list[str]:
    """The words that argparse takes for flags, and that are none of those known."""
    known, end = set(known), list(words).index("--") if "--" in words else len(words)
    flags = [word for word in words[:end] if word.startswith("--") and " " not in word]
    return [flag for flag in flags if flag.partition("=")[0] not in known]


def find_nearest(word: str, known: Iterable[str]) -> str:
    """A question that names the known words nearest to this one; empty if none is near.

    Dashes are underscores. Nearest is what ends in the word, or what it abbreviates: `epochs`, `batch_size`, `lr`.
    """
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(name.strip("-").replace("-", "_"), name)
    word = word.strip("-").replace("-", "_").lower()
    short = [name for name in names if name.endswith(f"_{word}") or "".join(p[:1] for p in name.split("_")) == word]
    near = [word] if word in names else short[:3] if len(word) > 1 else []
    near = near or difflib.get_close_matches(word, names, n=1)
    return f"did you mean {' or '.join(names[name] for name in near)}?" if near else ""


def add_base(parser: Any, text: str, required: bool = False) -> None:
    """Declare the base model under its one name; its aliases are understood, but not shown.

    Args:
        parser: or a group of it.
        text: for the help.
    """
    show_one_name(
        parser.add_argument(f"--{BASE}", *BASE_ALIASES, dest=BASE, metavar="MODEL", required=required, help=text)
    )


def add_base_checks(parser: Any) -> None:
    """Declare what a base may be beside the one that an adapter was made for."""
    parser.add_argument(
        "--allow_other_base",
        action="store_true",
        help="accept a base model of the same shapes that the adapter was not made for (default: refuse)",
    )
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run model code that comes with the base (default: refuse)"
    )


def resume_command(command: str, config: str | None, flags: dict[str, Any]) -> str:
    """The command line that goes on with a training.

    Args:
        command: of this package, such as train.
        config: its --config, if it had one.
        flags: its others, by name.
    """
    words = ["fourierft", command, *(["--config", config] if config else [])]
    for name, value in flags.items():
        if name not in ("resume_from_checkpoint", "overwrite_output_dir"):
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join([*words, "--resume_from_checkpoint", "true"])


def show_one_name(action: argparse.Action) -> None:
    """Let the help show the first name of a flag alone; the others are understood all the same."""
    action.option_strings = action.option_strings[:1]


def count_from(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number, `least` or more."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
        return int(text)

    return read

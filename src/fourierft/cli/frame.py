"""The frame of a command line: a program whose sub-commands are modules.

A command is a module, named with one line of help in the program's `commands`. It has

- a docstring: the description that `--help` shows, as written, examples included;
- `run(arguments: argparse.Namespace) -> int`: does the work by calling what lies below, returns the exit status;
- optionally `add_arguments(parser: argparse.ArgumentParser) -> None`: declares its arguments;
- optionally `parents(asks_help: bool) -> list[argparse.ArgumentParser]`: parsers whose arguments it takes over.

Only the module of the command that was asked for is imported, and a command module imports what is heavy inside `run`.
`run` raises `FourierFTError` for what the user can mend: it is printed as `PROGRAM: error: ...`, and the status is 2.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from fourierft import __version__
from fourierft.cli.locales import check_words, print_anything, use_utf8
from fourierft.cli.parser import CommandParser
from fourierft.cli.streams import READER_GONE, drop_unread, outliving_readers
from fourierft.errors import ConfigError, FourierFTError
from fourierft.extras import check_hosts

CHATTY = (
    *("torchao", "bitsandbytes", "torch.utils._pytree"),  # what a CPU lacks, whenever PEFT imports them
    "huggingface_hub.hf_api",  # without a connection, that what is in the cache is taken
    "matplotlib",  # where its cache is, if a home cannot be written
    "transformers.trainer_utils",  # that the model's config was told the tokenizer's special tokens
)
TOLD = (
    "Could not find a config file in .* will assume that the vocabulary was not modified",  # PEFT, without a connection
    "This DataLoader will create .* worker processes",  # a recipe has as many as its paper
)


@dataclass(frozen=True)
class Program:
    """A command line.

    Attributes:
        name: as it is typed.
        description: what the help begins with.
        epilog: what it ends with.
        commands: names, with a line of help each.
        module: which module a command is, by its name.
        lasting: commands that go on when nobody reads what they print.
        moved: commands that there were: words that are typed in their place today, and where.
        resumes: whether a command that was interrupted goes on where it stopped when it is given again.
    """

    name: str
    description: str
    epilog: str
    commands: Mapping[str, str]
    module: Callable[[str], str]
    lasting: Collection[str] = ()
    moved: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    resumes: bool = False


def build_parser(program: Program, argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a program, with the arguments of the command in `argv` alone filled in."""
    command = argv[0] if argv else None
    asks_help = "-h" in argv or "--help" in argv
    parser = CommandParser(prog=program.name, description=program.description, epilog=program.epilog)
    parser.add_argument("--version", action="version", version=f"fourierft {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in program.commands.items():
        if name != command:
            commands.add_parser(name, help=text)
            continue
        module = importlib.import_module(program.module(name))
        parents = module.parents(asks_help) if hasattr(module, "parents") else []
        subparser = commands.add_parser(name, help=text, description=module.__doc__, parents=parents)
        if hasattr(module, "add_arguments"):
            module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def run_program(program: Program, argv: Sequence[str] | None) -> int:
    """Run a command line and return its exit status: 0 done, 2 wrong input, 130 interrupted, 141 nobody reads."""
    as_process = argv is None
    if as_process:
        use_utf8()
    print_anything(sys.stdout, sys.stderr)
    argv = list(sys.argv[1:] if argv is None else argv)
    hush_libraries()
    try:
        try:
            return _run(program, argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where its errors can be told
            if as_process:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a further Ctrl-C, while Python ends, changes nothing
    except BrokenPipeError:
        if not drop_unread():
            raise
        return READER_GONE


def hush_libraries() -> None:
    """Keep from users what libraries say to programmers; `python -W` brings the warnings back."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning)
        for message in TOLD:
            warnings.filterwarnings("ignore", message=message)


def _run(program: Program, argv: Sequence[str]) -> int:
    try:
        try:
            check_words(argv)
            _refuse_moved(program, argv)
            arguments = build_parser(program, argv).parse_args(argv)
            with outliving_readers() if arguments.command in program.lasting else nullcontext():
                return int(arguments.run(arguments))
        except ImportError:
            check_hosts()  # says why, if PEFT or transformers is of another release
            raise
    except FourierFTError as error:
        _say(f"{program.name}: error: {error}")
        return 2
    except KeyboardInterrupt as interruption:
        again = "; the same command goes on from there" if program.resumes else ""
        _say(f"{program.name}: {str(interruption) or 'interrupted'}{again}")
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        from fourierft.files import explain

        reason = explain(error)
        if reason is None:
            raise
        _say(f"{program.name}: error: {reason}")
        return 2


@contextmanager
def saying_what_stays(what: str) -> Iterator[None]:
    """While this lasts, Ctrl-C is told with what it leaves behind, or how to go on."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        raise KeyboardInterrupt(f"{str(interruption) or 'interrupted'}; {what}") from interruption


def _say(sentence: str) -> None:
    """Write why it ends to standard error, on a line of its own."""
    from fourierft.bars import close_all

    close_all()
    begin = "\r" if sys.stderr is not None and sys.stderr.isatty() else ""  # over the ^C that a terminal shows
    print(f"{begin}{sentence}", file=sys.stderr)


def _refuse_moved(program: Program, argv: Sequence[str]) -> None:
    if argv and argv[0] in program.moved:
        words, where = program.moved[argv[0]]
        now = " ".join([words, *map(shlex.quote, argv[1:])])
        raise ConfigError(f"`{program.name} {argv[0]}` has moved; use `{now}` {where}")

"""What the commands of this package share: the help, and what a wrong input or Ctrl-C prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from fourierft.errors import FourierFTError
from fourierft.training.trainer import TrainingInterrupted


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of a module."""
    return argparse.ArgumentParser(
        f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def exit_status(run: Callable[[], None]) -> int:
    """Run a command: 0 done, 2 wrong input, 130 interrupted."""
    try:
        run()
    except FourierFTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (TrainingInterrupted, KeyboardInterrupt):
        print("interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    return 0

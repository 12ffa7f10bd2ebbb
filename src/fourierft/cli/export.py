"""Write an adapter in the format of another program, run the result there, and compare it with the adapter.

The command prints how far the answers differ from the adapter's, and the size of each part. A result that differs by
more than rounding is deleted. OUT must be new or an empty folder.

  fourierft export lora runs/reviews reviews-lora --rank 16
  fourierft export onnx runs/reviews runs/tweets exported
  fourierft export web fleet.db page

`fourierft export FORMAT --help` explains each format with examples.
"""

from __future__ import annotations

import argparse
import sys

from fourierft.cli.parser import add_base, add_base_checks
from fourierft.export.registry import FORMATS, find_format
from fourierft.tables import format_bytes, show_columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the formats, each with its arguments."""
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, text in FORMATS.items():
        module = find_format(name)
        own = formats.add_parser(name, help=text, description=module.__doc__)
        if module.TAKES_MANY:
            own.add_argument("adapters", nargs="+", metavar="ADAPTER", help=module.ADAPTERS)
        else:
            own.add_argument("adapter", metavar="ADAPTER", help="folder or hub id of a FourierFT adapter")
        own.add_argument("output", metavar="OUT", help="folder for the result; must be new or empty")
        module.add_arguments(own)
        add_base(own, "folder or hub id of the base, if not the one the adapter names")
        add_base_checks(own)


def run(arguments: argparse.Namespace) -> int:
    """Export, and say what was made."""
    from fourierft.training.files import hide_progress

    hide_progress()
    exported = find_format(arguments.format).export(arguments)
    if exported.table:
        print(f"{show_columns(exported.table, headings=True)}\n")
    print("\n".join(exported.notes))
    print("; ".join(f"{name} {format_bytes(count)}" for name, count in exported.sizes.items()))
    print(f"wrote {exported.output}", file=sys.stderr)
    return 0

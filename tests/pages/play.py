"""Runs every block of pages as a reader would, each page from top to bottom in a folder of its own.

    python play.py FOLDER PAGE...           in FOLDER/0, FOLDER/1, ..., which are there

Python blocks of a page share their names. Of a shell block the commands of this package run, in this process; those of
other programs are left to tests/pages/test_commands.py. Each page has a process of its own, forked from one that holds
torch. The status is 1 if a block failed; what it said is on the standard error.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # started as a script, from an empty folder

import fourierft
from fourierft.cli.main import main
from tests.pages.blocks import commands_of, read_blocks

OURS = "fourierft"


def play(page: Path) -> bool:
    """Run a page in the present folder; tell whether all of it went well."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in read_blocks(page):
        try:
            if block.language == "python":
                exec(compile(block.code, f"{page}:{block.line}", "exec"), names)
            elif block.language == "sh":
                for words in commands_of(block):
                    status = main(words[1:]) if words[0] == OURS else 0
                    if status:
                        raise RuntimeError(f"{' '.join(words)} ended with status {status}")
        except (Exception, SystemExit):
            traceback.print_exc()
            print(f"{page}, line {block.line}: this block failed", file=sys.stderr, flush=True)
            return False
    return True


def play_all(folder: Path, pages: list[Path]) -> bool:
    """Fork a process for each page; tell whether all went well."""
    good = True
    for number, page in enumerate(pages):
        child = os.fork()
        if child:
            good &= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            continue
        os.chdir(folder / str(number))
        good = play(page)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if good else 1)
    return good


if __name__ == "__main__":
    import peft  # noqa: F401  (loaded once, for all pages)
    import transformers  # noqa: F401

    print(f"playing with {fourierft.__file__}")
    sys.exit(0 if play_all(Path(sys.argv[1]), [Path(page) for page in sys.argv[2:]]) else 1)

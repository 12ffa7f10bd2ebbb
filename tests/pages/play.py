"""Runs every block of pages as a reader would, each page from top to bottom in a folder of its own.

    python play.py FOLDER PAGE...           in FOLDER/0, FOLDER/1, ..., which are there

Python blocks of a page share their names; a block with a title becomes a file of that name. Of a shell block run

- the commands of this package, in this process, with less work where a training or comparison would be long;
- `make TARGET`, as the commands of this package that the target would run;
- `python FILE` and `python -c`, in a process of their own;
- `cd`, for the block, and `export`, for the page.

Programs that no package index has are in OTHERS: their lines are not run. What else can't run here is in ELSEWHERE,
with the tests that run it. Each page has a process of its own, forked from one that holds torch. The status is 1 if a
block failed; the standard error tells which.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # started as a script, from an empty folder

import fourierft
from fourierft.cli.main import main
from tests.pages.blocks import ROOT, Block, commands_of, read_blocks

SHORTER = {  # a training of two steps, and two runs of a comparison, tell whether the command is right
    "train": {"--max_steps": "2"},
    "fleet train": {"--max_steps": "2"},
    "dreambooth --": {"--max_steps": "2", "--image_size": "16", "--mixed_precision": "no", "--n_frequency": "100"},
    "dreambooth sample": {"--num_inference_steps": "2"},
    "compare": {"--max_runs": "2"},
}
ELSEWHERE = {  # beginnings of commands, and where tests run them
    "fourierft serve": "tests/serving/vllm/test_pages.py",
    "fourierft dreambooth stand-in": "tests/training/diffusion",
    "curl": "tests/serving/vllm/test_pages.py",
    "make serve-demo": "tests/training/fleet",
    "make web-demo": "tests/export",
    "accelerate launch": "tests/training/test_distributed.py",
    "python -m lab": "tests/lab",
    "swift": "tests/integrations",
    "llamafactory-cli": "tests/integrations",
    "lm_eval": "tests/integrations",
    ".venv/bin/pre-commit": ".ci/run",
    ".venv/bin/python -m pytest": ".ci/run",
    "pip install": "tests/bare",
}
OTHERS = (
    "python -m http.server",
    "python convert_hf_to_gguf.py",
    "git clone",
    "python gen_judgment.py",
    "python show_result.py",
)
BEFORE = {  # what a reader of a page has done before
    "export.md": [
        "train --model_name_or_path FacebookAI/roberta-base --train_file reviews.csv --output_dir runs/reviews",
        "train --model_name_or_path MODEL --train_file chats.jsonl --task chat --output_dir runs/chat",
        "fleet demo",
    ],
    "images.md": [
        "dreambooth --config recipes/dreambooth/sd15.yaml --instance_data_dir dog-photos --instance_prompt ink"
        " --output_dir ink",
    ],
    "fleet.md": [
        "fleet train --model_name_or_path org/base --task answers --train_file customers.jsonl --store fleet.db"
        " --adapter_column customer",
        "store get fleet.db customer-1 runs/customer-3",
    ],
}


def play(page: Path) -> bool:
    """Run a page in the present folder; tell whether all of it went well."""
    names: dict[str, Any] = {"__name__": "__main__"}
    home = Path.cwd()
    for words in BEFORE.get(page.name, []):
        run_ours(shlex.split(words))
    for block in read_blocks(page):
        try:
            if block.title:
                Path(block.title).write_text(block.code)
            elif block.language == "python":
                exec(compile(block.code, f"{page}:{block.line}", "exec"), names)
            elif block.language == "sh":
                run_commands(block)
        except (Exception, SystemExit):
            traceback.print_exc()
            print(f"{page}, line {block.line}: this block failed", file=sys.stderr, flush=True)
            return False
        finally:
            os.chdir(home)
    return True


def run_commands(block: Block) -> None:
    """Run the commands of a shell block, or leave them to other tests.

    Raises: RuntimeError, if one fails or is unknown.
    """
    for words in commands_of(block):
        while re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):  # only commands of others have such words before them
            words = words[1:]
        program, line = (
            words[0].rpartition("/")[2],
            " ".join(words).replace(".venv-vllm/bin/", "").replace(".venv/bin/fourierft", "fourierft"),
        )
        if line.startswith((*ELSEWHERE, *OTHERS)):
            continue
        if program == "fourierft":
            run_ours(words[1:])
        elif program == "make":
            for inner in commands_of_targets(words[1:]):
                run_ours(inner)
        elif program == "python":
            subprocess.run([sys.executable, *words[1:]], check=True)
        elif program == "cd":
            os.chdir(words[1])
        elif program == "export":
            name, _, value = words[1].partition("=")
            os.environ[name] = value
        else:
            raise RuntimeError(f"{line} is not run by any test: see ELSEWHERE in tests/pages/play.py")


def run_ours(words: list[str]) -> None:
    """Run a command of this package, `words` without its name; RuntimeError if its status is not 0."""
    for beginning, more in SHORTER.items():
        if " ".join(words).startswith(beginning):
            words = words + [word for name, value in more.items() if name not in words for word in (name, value)]
    print(f"<<< fourierft {' '.join(words)}", file=sys.stderr, flush=True)
    status = main(words)
    print(">>>", file=sys.stderr, flush=True)
    if status:
        raise RuntimeError(f"fourierft {' '.join(words)} ended with status {status}")


def commands_of_targets(targets: list[str]) -> Iterator[list[str]]:
    """The commands of this package that `make` would run, but for the server."""
    told = subprocess.run(
        ["make", "--dry-run", "-C", str(ROOT), *targets], capture_output=True, text=True, check=True
    ).stdout
    for line in told.replace("\\\n", " ").splitlines():
        for part in line.split(" || "):
            words = shlex.split(part)
            if words and words[0].endswith("/fourierft") and words[1] != "serve":
                yield words[1:]


def play_all(folder: Path, pages: list[Path]) -> bool:
    """Fork a process for each page; tell whether all went well."""
    good = True
    for number, page in enumerate(pages):
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(f"{pages[number]}: status {status}", flush=True)
            good &= status == 0
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

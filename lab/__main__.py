"""The laboratory's command line: `python -m lab bench|paper|trials ...`, in a checkout of the repository.

A room's first command is its `command.py`; the others it has are named below, each a module as `fourierft.cli.frame`
wants it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fourierft.cli.frame import Program, run_program

NAME = "python -m lab"
ROOMS = {
    "bench": "time the kernels, training steps, stores and the server on this machine",
    "paper": "run a table or figure of the paper, and set its numbers and ours side by side",
    "trials": "run an experiment beyond the paper",
}
COMMANDS = {
    "bench": {
        "store": "an adapter store written, fetched and loaded, and its writer killed",
        "zipf": "a million adapters, drawn by Zipf through a bank that loads and evicts",
        "serving": "the server: are its answers right, how fast is it, what does it bear",
        "picture": "the picture of the server's page",
        "browser": "what `fourierft export web` made, in Chromium: seconds, and how far it is from PyTorch",
        "cubins": "compile the GPU kernels without a GPU: registers, spills, shared memory",
        "limits": "what a GPU could do at best, by bytes and flops; measures nothing",
    },
    "paper": {
        "rates": 'the paper\'s settings as learning rates of scaling="auto"',
        "mathematics": "the picture of docs/math.md: entries, a wave, their sum",
    },
    "trials": {
        "tried": "changes of the best form on three tasks, one at a time",
        "curve": "LoRA and FourierFT on the same layers: tables, differences, a plot",
        "front": "the picture and the table of README",
        "widths": 'does scaling="auto" keep LoRA\'s learning rate at every width',
        "reinforcement": "how much reward do a few numbers gain",
        "stock": "what to set if you stay with stock PEFT",
        "preferences": "do preferences teach a small model, by DPO and by KTO",
        "unet": "does a convolutional UNet learn at the settings that LoRA is used with",
        "graphs": "adapters of an ONNX graph: factors in it, or a second graph that makes weights",
        "travel": "how far steps of LoRA and FourierFT move a layer at one rate",
    },
}
MODULES = {
    "serving": "lab.bench.serving.command",
    "picture": "lab.bench.serving.picture",
    "limits": "lab.bench.limits.command",
}
EPILOG = f"""\
Start here:
  {NAME} bench --list
  {NAME} paper table1
  {NAME} trials curve

`{NAME} bench COMMAND --help` explains a command. Besides the suites, bench has {", ".join(COMMANDS["bench"])}.
"""


def choose_program(words: Sequence[str]) -> tuple[Program, Sequence[str]]:
    """The command line that these words are for, and those that it is given."""
    room, command = (*words[:2], "", "")[:2]
    own = COMMANDS.get(room, {})
    if room != "trials" and command not in own:
        description = "Measure the package, repeat the paper, and try what goes beyond it. Runs in a checkout."
        program = Program(NAME, description, EPILOG, ROOMS, "lab.{}.command".format, lasting=ROOMS, resumes=True)
        return program, words

    def module(name: str) -> str:
        return MODULES.get(name, f"lab.{room}.{name}")

    epilog = f"`{NAME} {room} COMMAND --help` explains a command."
    return Program(f"{NAME} {room}", ROOMS[room], epilog, own, module, lasting=own, resumes=True), words[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, as `fourierft` has them."""
    program, words = choose_program(sys.argv[1:] if argv is None else argv)
    return run_program(program, words)


if __name__ == "__main__":
    sys.exit(main())

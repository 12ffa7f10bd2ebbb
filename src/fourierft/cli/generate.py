"""Answer a prompt or a file of prompts with a language model, or chat with it.

RUN is a folder that `fourierft train` wrote for a language model. MODEL is the folder or hub id of any causal language
model; --adapter adds a PEFT adapter to it. Prompts go through the model's chat template, as in training.

  fourierft generate runs/chat --prompt "Name three colours."         prints the words as they come
  fourierft generate runs/chat --chat                                 chat; /new starts again, /end stops
  fourierft generate runs/chat --prompts prompts.txt --output answers.jsonl
  fourierft generate MODEL --adapter user-adapter --prompts chats.jsonl --output answers.jsonl --temperature 0.7

A file of prompts is .txt with one prompt on each line, or json, jsonl, csv or parquet with messages, conversations,
prompt, or instruction and input. Answers are written as JSON lines. If the command stops, run it again to continue
after the last answer.
"""

from __future__ import annotations

import argparse
import sys

from fourierft.cli.speaking import add_model_arguments, add_output_arguments, load, sampling_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    asked = parser.add_argument_group("what to answer").add_mutually_exclusive_group(required=True)
    asked.add_argument("--prompt", metavar="TEXT", help="prompt to answer")
    asked.add_argument("--prompts", metavar="FILE", help="file of prompts to answer; needs --output")
    asked.add_argument("--chat", action="store_true", help="chat: answer each line that you type or pipe in")
    parser.add_argument("--system", metavar="TEXT", help="system message at the start of --prompt and --chat")
    add_output_arguments(parser, required=False)
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=float,
        default=0.0,
        help="randomness of the words; 0 takes the likeliest (default: 0)",
    )


def run(arguments: argparse.Namespace) -> int:
    from fourierft.errors import ConfigError
    from fourierft.training.chat.answering import answer_file

    if (arguments.prompts is None) != (arguments.output is None):
        raise ConfigError("--prompts FILE and --output FILE belong together; give both, or --prompt TEXT")
    sampling = sampling_of(arguments, arguments.temperature)
    speaker = load(arguments)
    start = [{"role": "system", "content": arguments.system}] if arguments.system else []
    if arguments.prompt is not None:
        speaker.speak([*start, {"role": "user", "content": arguments.prompt}], sampling)
    elif arguments.chat:
        converse(speaker, start, sampling)
    else:
        count = answer_file(
            speaker, arguments.prompts, arguments.output, sampling, arguments.batch_size, arguments.overwrite
        )
        print(f"wrote {count} answers to {arguments.output}")
    return 0


def converse(speaker: object, start: list[dict[str, str]], sampling: object) -> None:
    """Answer the lines of standard input, each in view of those before."""
    messages = list(start)
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            if prompt:
                print()  # the shell's own prompt begins a line
            return
        if line == "/end":
            return
        if line == "/new":
            messages = list(start)
        elif line:
            messages.append({"role": "user", "content": line})
            answer = speaker.speak(messages, sampling)  # type: ignore[attr-defined]
            messages.append({"role": "assistant", "content": answer})

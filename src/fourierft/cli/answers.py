"""Answer the questions of MT-Bench or Vicuna, in a file for FastChat's judge.

RUN or MODEL is as in `fourierft generate`. The questions are FastChat's, from fastchat/llm_judge/data/mt_bench and
vicuna_bench, or a hub data set with the same columns. The temperature depends on the category, as in FastChat.

  fourierft answers runs/chat --bench mt-bench --questions question.jsonl --output my-model.jsonl
  fourierft answers runs/chat --bench vicuna --questions vicuna.jsonl --output my-model.jsonl --model_id my-model

If the command stops, run it again to continue after the last answer. The judge needs a paid API.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fourierft.cli.speaking import add_model_arguments, add_output_arguments, load, sampling_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, max_new_tokens=1024)
    parser.add_argument("--bench", metavar="BENCH", required=True, help="mt-bench (two turns) or vicuna (one turn)")
    parser.add_argument(
        "--questions", metavar="FILE", required=True, help="FastChat's question.jsonl, or the hub id of a data set"
    )
    parser.add_argument(
        "--model_id", metavar="NAME", help="model name for the judge (default: name of the output file)"
    )
    add_output_arguments(parser, required=True)


def run(arguments: argparse.Namespace) -> int:
    from fourierft.training.chat.bench import answer_questions, read_questions

    questions = read_questions(arguments.questions, arguments.bench)
    count = answer_questions(
        load(arguments),
        questions,
        arguments.output,
        arguments.model_id or Path(arguments.output).stem,
        sampling_of(arguments, 0.0),
        arguments.batch_size,
        arguments.overwrite,
    )
    print(f"wrote the answers to {count} questions to {arguments.output}")
    return 0

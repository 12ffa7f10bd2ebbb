"""The arguments that `generate` and `answers` share: which model speaks, how, and where its answers go."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fourierft.cli.parser import add_base
from fourierft.errors import ConfigError

if TYPE_CHECKING:
    from fourierft.training.chat.speaker import Sampling, Speaker


def add_model_arguments(parser: argparse.ArgumentParser, max_new_tokens: int = 512) -> None:
    """Declare the model and how it chooses its words."""
    parser.add_argument(
        "source",
        metavar="RUN|MODEL",
        nargs="?",
        help="folder that `fourierft train` wrote, or folder or hub id of a language model",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--adapter", metavar="DIR", help="folder of a PEFT adapter for MODEL")
    add_base(model, "base model of RUN, if it moved since training; without RUN, the model to use")
    model.add_argument(
        "--allow_other_base",
        action="store_true",
        help="accept a base model that the adapter was not made for (default: refuse)",
    )
    model.add_argument(
        "--dtype",
        metavar="DTYPE",
        help="dtype of MODEL's weights: float32, bfloat16, float16 or auto (default: float32)",
    )
    model.add_argument(
        "--quantization", metavar="KIND", help="quantise MODEL: nf4, int8 or torchao-int8 (default: none)"
    )
    model.add_argument(
        "--trust_remote_code", action="store_true", help="run model code that comes with MODEL (default: refuse)"
    )
    model.add_argument("--use_cpu", action="store_true", help="use the CPU even if there is an accelerator")
    words = parser.add_argument_group("words")
    words.add_argument(
        "--max_new_tokens",
        metavar="N",
        type=int,
        default=max_new_tokens,
        help=f"most tokens of an answer (default: {max_new_tokens})",
    )
    words.add_argument(
        "--top_p",
        metavar="P",
        type=float,
        default=1.0,
        help="draw only from the likeliest tokens, up to total probability P (default: 1)",
    )
    words.add_argument("--seed", metavar="SEED", type=int, default=42, help="random seed (default: 42)")


def add_output_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    results = parser.add_argument_group("results")
    results.add_argument(
        "--output",
        metavar="FILE",
        required=required,
        help="file of JSON lines to write; if it exists, the command continues it",
    )
    results.add_argument("--batch_size", metavar="SIZE", type=int, default=8, help="prompts in a batch (default: 8)")
    results.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def load(arguments: argparse.Namespace) -> Speaker:
    """The model, ready to answer, if answers can be written where they are to go."""
    from fourierft.files import check_file
    from fourierft.training.chat.speaker import load_speaker
    from fourierft.training.files import hide_progress

    hide_progress()
    base = arguments.model_name_or_path
    if arguments.source is None and base is None:
        raise ConfigError("no model given; name a folder that `fourierft train` wrote, or a language model")
    if arguments.output is not None:
        check_file(arguments.output)
    return load_speaker(
        arguments.source or base,
        arguments.adapter,
        base_model=base if arguments.source else None,
        dtype=arguments.dtype,
        quantization=arguments.quantization,
        trust_remote_code=arguments.trust_remote_code,
        use_cpu=arguments.use_cpu,
        allow_other_base=arguments.allow_other_base,
    )


def sampling_of(arguments: argparse.Namespace, temperature: float) -> Sampling:
    from fourierft.training.chat.speaker import Sampling

    return Sampling(temperature, arguments.top_p, arguments.max_new_tokens, arguments.seed)

"""Add an adapter to its base model and save the result: a full model that needs neither PEFT nor this package.

ADAPTER is a folder with adapter_config.json, or a hub id. The model saved takes the head and whatever else the adapter
brings (modules_to_save), the tokenizer if there is one beside the adapter or the base, and the base's dtype unless
--dtype says otherwise. A bfloat16 or float16 base rounds small updates away, and a quantised one quantises the sum
again: the command measures what is lost and prints it.

  fourierft merge runs/reviews merged
  fourierft merge runs/reviews merged --model_name_or_path ./minilm   the base is elsewhere
  fourierft merge user/adapter merged --dtype float32        keep all of the update
  fourierft merge runs/chat merged --quantization nf4        into the base in 4 bits, and leave it in 4 bits

Then, in Python, without this package:

  AutoModelForSequenceClassification.from_pretrained("merged")
"""

from __future__ import annotations

import argparse

from fourierft.cli.parser import add_base, add_base_checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="folder or hub id of a FourierFT adapter")
    parser.add_argument("output", metavar="OUT", help="folder to make; must not be there, or be empty")
    add_base(parser, "folder or hub id of the base, if not the one the adapter names")
    parser.add_argument(
        "--dtype",
        default="auto",
        metavar="DTYPE",
        help="dtype of the result: float32, bfloat16, float16, float64, or auto, the base's (default: auto)",
    )
    parser.add_argument(
        "--quantization", metavar="KIND", help="quantise the base and the result: nf4, int8 or torchao-int8"
    )
    add_base_checks(parser)


def run(arguments: argparse.Namespace) -> int:
    from fourierft.adapters.merge import merge_adapter

    merged = merge_adapter(
        arguments.adapter,
        arguments.output,
        arguments.model_name_or_path,
        arguments.dtype,
        arguments.trust_remote_code,
        arguments.quantization,
        arguments.allow_other_base,
    )
    print(f"merged {merged.layers} layers into {merged.base}")
    kind = merged.quantization or merged.dtype
    print(f"saved {merged.output}: {merged.model_class}, {kind}{', with its tokenizer' * merged.processor}")
    if merged.rounding:
        print(f"note: {merged.describe_rounding()}")
    return 0

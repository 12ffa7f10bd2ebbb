"""Merge an adapter into its base model and save a full model that needs neither PEFT nor this package.

ADAPTER is a folder with adapter_config.json, or a hub id. The saved model has the adapter's head and other extra
modules (modules_to_save), and the tokenizer that is beside the adapter or the base. It keeps the base's dtype unless
you give --dtype. A bfloat16 or float16 base rounds small updates away, and a quantised base quantises the sum again.
The command measures this loss and prints it.

  fourierft merge runs/reviews merged
  fourierft merge runs/reviews merged --model_name_or_path ./minilm   the base has moved
  fourierft merge user/adapter merged --dtype float32        keep all of the update
  fourierft merge runs/chat merged --quantization nf4        merge into the base in 4 bits, and stay in 4 bits

Then, in Python, without this package:

  AutoModelForSequenceClassification.from_pretrained("merged")
"""

from __future__ import annotations

import argparse

from fourierft.cli.parser import add_base, add_base_checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="folder or hub id of a FourierFT adapter")
    parser.add_argument("output", metavar="OUT", help="folder for the merged model; must be new or empty")
    add_base(parser, "folder or hub id of the base, if not the one the adapter names")
    parser.add_argument(
        "--dtype",
        default="auto",
        metavar="DTYPE",
        help="dtype of the result: float32, bfloat16, float16, float64, or auto for the base's (default: auto)",
    )
    parser.add_argument(
        "--quantization",
        metavar="KIND",
        help="quantise the base and the result: nf4, int8 or torchao-int8 (default: none)",
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

"""Write an adapter as LoRA: each layer's update cut off at a rank, for all that reads LoRA and knows no FourierFT.

The best LoRA of a rank is what the singular values of dW say (a truncated SVD). A FourierFT update has a high rank, so
this loses: the energy kept, the share of ||dW||^2, is told for each layer. The result is loaded by stock PEFT, run, and
compared with what was kept, to rounding, and with the adapter. OUT has all that is printed in export.json.

  fourierft export lora runs/reviews reviews-lora                  ranks that keep 99% of each layer's energy
  fourierft export lora runs/reviews reviews-lora --energy 0.9
  fourierft export lora runs/reviews reviews-lora --rank 16        the same for all layers, as vLLM's --max-lora-rank
  fourierft export lora runs/reviews reviews-lora --rank 16 --test_file test.csv     and the score before and after

Then, in Python, without this package:

  PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained("minilm"), "reviews-lora")
"""

from __future__ import annotations

import argparse

from fourierft.errors import ConfigError
from fourierft.export.exported import Exported

TAKES_MANY = False
ENERGY = 0.99


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that this format alone has."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rank", type=int, metavar="R", help="of every layer, or as many as a smaller layer has")
    size.add_argument(
        "--energy", type=float, metavar="SHARE", help=f"of ||dW||^2, kept in every layer (default: {ENERGY})"
    )
    parser.add_argument("--test_file", metavar="FILE", help="score the adapter and the result on it")


def export(arguments: argparse.Namespace) -> Exported:
    """Write the LoRA adapter, load it with stock PEFT, compare.

    Raises: ConfigError, if rank or energy are out of range. ExportError, if the adapter has what LoRA has not, or what
        stock PEFT reads is not what was written. OutputExistsError, if OUT holds something. DataError, if the file to
        score on does not fit.
    """
    if arguments.rank is not None and arguments.rank < 1:
        raise ConfigError(f"--rank {arguments.rank} is none; use 1 or more")
    if arguments.energy is not None and not 0 < arguments.energy <= 1:
        raise ConfigError(f"--energy {arguments.energy:g} is no share; use one above 0, up to 1")
    from fourierft.export.truncation import export_lora

    return export_lora(
        arguments.adapter,
        arguments.output,
        arguments.rank,
        arguments.energy or ENERGY,
        arguments.test_file,
        base=arguments.model_name_or_path,
        trust_remote_code=arguments.trust_remote_code,
        allow_other_base=arguments.allow_other_base,
    )

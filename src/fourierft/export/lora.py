"""Write an adapter as LoRA, for programs that read LoRA but not FourierFT. Each layer's update is cut off at a rank.

The best LoRA of a rank is a truncated SVD of dW. A FourierFT update has a high rank, so the export loses something. The
command prints the energy that each layer keeps, as a share of ||dW||^2. Stock PEFT then loads and runs the result. It
is compared with what was kept, to rounding, and with the adapter. export.json in OUT has everything that is printed.

  fourierft export lora runs/reviews reviews-lora                  ranks that keep 99% of each layer's energy
  fourierft export lora runs/reviews reviews-lora --energy 0.9
  fourierft export lora runs/reviews reviews-lora --rank 16        one rank for all layers, as in vLLM's --max-lora-rank
  fourierft export lora runs/reviews reviews-lora --rank 16 --test_file test.csv     also the score before and after

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
    size.add_argument("--rank", type=int, metavar="R", help="rank of every layer; a smaller layer gets its full rank")
    size.add_argument(
        "--energy", type=float, metavar="SHARE", help=f"share of ||dW||^2 that every layer keeps (default: {ENERGY})"
    )
    parser.add_argument("--test_file", metavar="FILE", help="labelled data to score the adapter and the result on")


def export(arguments: argparse.Namespace) -> Exported:
    """Write the LoRA adapter, load it with stock PEFT, compare.

    Raises: ConfigError, if rank or energy are out of range. ExportError, if the adapter has what LoRA has not, or what
        stock PEFT reads is not what was written. OutputExistsError, if OUT holds something. DataError, if the file to
        score on does not fit.
    """
    if arguments.rank is not None and arguments.rank < 1:
        raise ConfigError(f"--rank {arguments.rank} is too small; use 1 or more")
    if arguments.energy is not None and not 0 < arguments.energy <= 1:
        raise ConfigError(f"--energy {arguments.energy:g} is out of range; use a share above 0, up to 1")
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

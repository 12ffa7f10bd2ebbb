"""Fine-tune a model on a data set.

Reads rows from files (csv, tsv, json, jsonl, parquet), folders or the hub, finds out from the columns and labels
whether texts, words of sentences or images are to be classified, numbers predicted, or prompts answered, prints what
will be trained, trains it, and writes into --output_dir: the adapter, its tokenizer or image processor, metrics.json,
curve.png and a model card, README.md. `fourierft evaluate` reads all that.

Examples:
  # FourierFT, 340 coefficients on every linear layer, on a csv file with the columns text and label
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir out

  # the same data, another method: lora, head, bitfit, full, or any PEFT config
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir out-lora --method lora --lora_r 8
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir ia3 --method ia3/adapter_config.json

  # pairs of sentences from the hub, with a learning rate of its own for the head
  fourierft train --model_name_or_path roberta-base --dataset_name nyu-mll/glue --dataset_config_name mrpc \\
      --text_column sentence1 sentence2 --learning_rate 5e-3 --head_learning_rate 1e-3 --output_dir mrpc

  # a language model learns to answer: the columns instruction, input and output, or the ones named
  fourierft train --model_name_or_path MODEL --train_file alpaca.json --task answers --output_dir answers

  # several labels a row, as ["joy", "anger"]; a tag for each word, from the columns tokens and ner_tags
  fourierft train --model_name_or_path MODEL --train_file tickets.jsonl --task multi_label_classification --output_dir t
  fourierft train --model_name_or_path MODEL --train_file names.jsonl --task token_classification --output_dir names

  # conversations, or instructions, in the model's chat template, over a base in 4 bits
  fourierft train --model_name_or_path MODEL --train_file chats.jsonl --task chat --quantization nf4 --output_dir chat

  # images in folders named like their class
  fourierft train --model_name_or_path facebook/dinov2-small --dataset_name ./photos --target_modules q_proj v_proj \\
      --output_dir photos-adapter

  # settings in a file, one `key: value` a line; flags win over it
  fourierft train --config mrpc.yaml --seed 1 --output_dir mrpc-1

  # only say what would be trained, how many numbers, bytes and steps, in how much memory, and what would be downloaded
  fourierft train --model_name_or_path MODEL --train_file train.csv --n_frequency 200 --dry_run

Ctrl-C finishes the running step, saves a checkpoint and prints the command to go on. After a crash, the same command
with --resume_from_checkpoint true goes on from the last checkpoint, to the same result, bit for bit.

Every key of transformers' TrainingArguments is a flag, and a key of the config file, too; the most used are below. On
several devices, run `accelerate launch -m fourierft.cli.main train ...`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fourierft.cli.parser import resume_command, show_one_name


def parents(asks_help: bool) -> list[argparse.ArgumentParser]:
    """All settings, their defaults left out of the namespace; for the help, those that matter."""
    from fourierft.training.settings import help_parser, settings_parser

    return [help_parser() if asks_help else settings_parser()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --config, and shorten the help."""
    parser.usage = (
        "fourierft train [--config FILE] --model_name_or_path MODEL (--train_file FILE | --dataset_name DATASET) "
        "--output_dir DIR [SETTINGS]"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags win over it")
    for action in parser._actions:
        show_one_name(action)


def run(arguments: argparse.Namespace) -> int:
    """Train; after an interruption, say how to go on."""
    from fourierft.training.dry_run import check_missing
    from fourierft.training.files import hide_progress
    from fourierft.training.run import train
    from fourierft.training.settings import build_arguments, known_settings, read_config
    from fourierft.training.trainer import TrainingInterrupted

    flags = {name: value for name, value in vars(arguments).items() if name in known_settings()}
    settings = {**read_config(arguments.config), **flags} if arguments.config else flags
    complete = build_arguments(settings)
    hide_progress()
    is_main = complete.training.process_index == 0
    try:
        metrics = train(complete)
    except TrainingInterrupted as interruption:
        if is_main:
            command = resume_command("train", arguments.config, flags)
            print(f"fourierft: {interruption}; go on with: {command}", file=sys.stderr)
        return 130
    if complete.run.dry_run:
        check_missing(metrics)
        return 0
    if is_main:
        print(describe(metrics, str(complete.training.output_dir)))
        if metrics.get("diverged"):
            print(
                "fourierft: the training diverged: what it wrote holds numbers that are not finite; train again with a "
                "lower --learning_rate",
                file=sys.stderr,
            )
    return int(metrics.get("diverged", False))


def describe(metrics: dict[str, Any], directory: str) -> str:
    """The metrics of a finished training as a table, and where everything is."""
    from fourierft.tables import align_columns, format_bytes
    from fourierft.training.report import score_rows

    rows: list[tuple[str, ...]] = [
        *score_rows(metrics),
        ("seconds per step", f"{metrics['train']['seconds_per_step']:.4f}"),
        ("weights", format_bytes(metrics["bytes"]["file"])),
        ("written to", directory),
    ]
    return align_columns(rows)

"""Fine-tune a model on a data set.

Reads rows from files (csv, tsv, json, jsonl, parquet), folders or the hub. The columns and labels decide the task:
classify texts, words or images, predict numbers, or answer prompts; --task names it where they leave a choice. The
command prints what it will train, trains it, and writes the adapter, its tokenizer or image processor, metrics.json,
curve.png and a model card into --output_dir. `fourierft evaluate` reads that folder.

Examples:
  # FourierFT with 340 coefficients on every linear layer; the csv file has the columns text and label
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir out

  # the same data with another method: lora, head, bitfit, full, or any PEFT config
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir out-lora --method lora --lora_r 8
  fourierft train --model_name_or_path MODEL --train_file train.csv --output_dir ia3 --method ia3/adapter_config.json

  # pairs of sentences from the hub, with a separate learning rate for the head
  fourierft train --model_name_or_path roberta-base --dataset_name nyu-mll/glue --dataset_config_name mrpc \\
      --text_column sentence1 sentence2 --learning_rate 5e-3 --head_learning_rate 1e-3 --output_dir mrpc

  # a language model learns to answer; the file has the columns instruction, input and output
  fourierft train --model_name_or_path MODEL --train_file alpaca.json --task answers --output_dir answers

  # several labels a row, such as ["joy", "anger"]; then a tag for each word, from the columns tokens and ner_tags
  fourierft train --model_name_or_path MODEL --train_file tickets.jsonl --task multi_label_classification --output_dir t
  fourierft train --model_name_or_path MODEL --train_file names.jsonl --task token_classification --output_dir names

  # conversations or instructions in the model's chat template, over a base in 4 bits
  fourierft train --model_name_or_path MODEL --train_file chats.jsonl --task chat --quantization nf4 --output_dir chat

  # images in folders that are named after their class
  fourierft train --model_name_or_path facebook/dinov2-small --dataset_name ./photos --target_modules q_proj v_proj \\
      --output_dir photos-adapter

  # settings from a YAML file, one `key: value` on each line; flags override it
  fourierft train --config mrpc.yaml --seed 1 --output_dir mrpc-1

  # print parameters, bytes, steps, memory and downloads, and train nothing
  fourierft train --model_name_or_path MODEL --train_file train.csv --n_frequency 200 --dry_run

Ctrl-C finishes the current step, saves a checkpoint and prints the command to resume. After a crash, run the same
command with --resume_from_checkpoint true: it continues from the last checkpoint to the same result, bit for bit.

Every key of transformers' TrainingArguments works as a flag and in the config file. The most used are below. On several
devices, run `accelerate launch -m fourierft.cli.main train ...`.
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
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags override it")
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
            print(f"fourierft: {interruption}; resume with: {command}", file=sys.stderr)
        return 130
    if complete.run.dry_run:
        check_missing(metrics)
        return 0
    if is_main:
        print(describe(metrics, str(complete.training.output_dir)))
        if metrics.get("diverged"):
            print(
                "fourierft: the training diverged: what it wrote holds numbers that are "
                "not finite; train again with a lower --learning_rate",
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

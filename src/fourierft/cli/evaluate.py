"""Score what `fourierft train` wrote, on any labelled data.

The adapter's folder records its base model, task and columns. You name the data; name the columns only if they differ
from the training's. For an adapter in a store, first run `fourierft store get STORE NAME DIR`. `fourierft store
evaluate` scores all adapters of a store.

Examples:
  fourierft evaluate out --test_file test.csv
  fourierft evaluate out --dataset_name nyu-mll/glue --dataset_config_name mrpc --test_split_name validation
  fourierft evaluate out --test_file tweets.jsonl --text_column tweet --label_column mood --predictions tweets-out.jsonl
  fourierft evaluate out --test_file unlabelled.csv --predictions labelled.jsonl
  fourierft evaluate e2e --test_file testset_w_refs.csv --generate e2e-texts
  fourierft evaluate e2e --test_file testset_w_refs.csv --generate base-texts --without_adapter --num_beams 4

Prints a table of metrics. Classes: accuracy, F1 and Matthews correlation. Numbers: Pearson and Spearman correlation and
root mean squared error. Answers: loss per token, and the share of tokens that the model found likeliest.

With --predictions, classes and numbers are predicted for data without labels too; then nothing is scored.

With --generate, a language model writes answers by beam search. They are scored as texts by BLEU, NIST, METEOR, ROUGE-L
and CIDEr, against all references that rows of the same prompt give. If you interrupt the command, run it again to
continue. The search settings default to those for E2E in the LoRA paper's code.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fourierft.cli.parser import add_base


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "fourierft evaluate ADAPTER (--test_file FILE | --dataset_name DATASET) [SETTINGS]"
    parser.add_argument("directory", metavar="ADAPTER", help="output directory of `fourierft train`")
    data = parser.add_argument_group("data")
    data.add_argument("--test_file", metavar="FILE", help="csv, tsv, json, jsonl or parquet file to evaluate on")
    data.add_argument(
        "--dataset_name", metavar="DATASET", help="hub id or folder of a data set, instead of --test_file"
    )
    data.add_argument(
        "--dataset_config_name", metavar="NAME", help="configuration of the data set, such as mrpc of glue"
    )
    data.add_argument(
        "--test_split_name",
        metavar="SPLIT",
        default="test",
        help="split of the data set to evaluate on (default: test)",
    )
    data.add_argument(
        "--text_column",
        metavar="COLUMN",
        nargs="+",
        help="column of the text, two columns of a text pair, or the columns of a prompt (default: as trained)",
    )
    data.add_argument("--image_column", metavar="COLUMN", help="column of the image (default: as trained)")
    data.add_argument("--label_column", metavar="COLUMN", help="column of the label (default: as trained)")
    data.add_argument(
        "--unreadable_images",
        choices=("stop", "skip"),
        default="stop",
        help="stop at an image that can't be read, or skip it (default: stop)",
    )
    data.add_argument("--max_eval_samples", metavar="N", type=int, help="evaluate on N random rows (default: all)")
    data.add_argument("--seed", metavar="SEED", type=int, default=42, help="seed that draws these rows (default: 42)")
    run = parser.add_argument_group("run")
    add_base(run, "hub id or folder of the base model, if it moved since training")
    run.add_argument(
        "--allow_other_base",
        action="store_true",
        help="accept a base model that the adapter was not made for (default: refuse)",
    )
    run.add_argument("--batch_size", metavar="SIZE", type=int, default=32, help="rows in a batch (default: 32)")
    run.add_argument("--use_cpu", action="store_true", help="use the CPU even if there is an accelerator")
    texts = parser.add_argument_group("texts")
    texts.add_argument("--generate", metavar="DIR", help="generate texts and score them; both are written to DIR")
    texts.add_argument("--num_beams", metavar="N", type=int, default=10, help="beams of the search (default: 10)")
    texts.add_argument(
        "--length_penalty",
        metavar="POWER",
        type=float,
        default=0.8,
        help="divide a text's log probability by its number of tokens to this power (default: 0.8)",
    )
    texts.add_argument(
        "--no_repeat_ngram_size",
        metavar="N",
        type=int,
        default=4,
        help="never repeat N tokens in a text; 0 allows it (default: 4)",
    )
    texts.add_argument(
        "--max_new_tokens", metavar="N", type=int, default=64, help="most tokens of a text (default: 64)"
    )
    texts.add_argument("--without_adapter", action="store_true", help="generate with the base model alone, to compare")
    texts.add_argument(
        "--wordnet",
        metavar="DIR",
        help="folder of WordNet's database files, for METEOR's synonyms (default: Debian's, if installed)",
    )
    results = parser.add_argument_group("results")
    results.add_argument("--output", metavar="FILE", help="write the metrics as JSON")
    results.add_argument(
        "--predictions", metavar="FILE", help="write text, label and prediction of each row, as JSON lines"
    )
    results.add_argument("--overwrite", action="store_true", help="replace these files if they exist")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the metrics, write the files asked for."""
    from fourierft.errors import OutputExistsError
    from fourierft.files import check_file
    from fourierft.training.arguments import DataArguments
    from fourierft.training.evaluation import evaluate
    from fourierft.training.files import hide_progress
    from fourierft.training.output import write_json, write_json_lines
    from fourierft.training.report import without_nan

    for path in (arguments.output, arguments.predictions):
        if path and Path(path).is_file() and not arguments.overwrite:
            raise OutputExistsError(f"{path} exists; choose another name, or give --overwrite")
        if path:
            check_file(path)
    hide_progress()
    data = DataArguments(
        dataset_name=arguments.dataset_name,
        dataset_config_name=arguments.dataset_config_name,
        test_split_name=arguments.test_split_name,
        test_file=arguments.test_file,
        text_column=arguments.text_column,
        image_column=arguments.image_column,
        label_column=arguments.label_column,
        unreadable_images=arguments.unreadable_images,
        max_eval_samples=arguments.max_eval_samples,
    )
    if arguments.generate:
        print_metrics(generate(arguments, data))
        return 0
    evaluation = evaluate(
        arguments.directory,
        data,
        base_model=arguments.model_name_or_path,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        use_cpu=arguments.use_cpu,
        allow_other_base=arguments.allow_other_base,
        may_lack_labels=bool(arguments.predictions),
    )
    metrics = without_nan({**evaluation.metrics, "rows": len(evaluation.predictions)})
    print_metrics(metrics)
    if arguments.output:
        write_json(arguments.output, metrics)
    if arguments.predictions:
        write_json_lines(arguments.predictions, evaluation.predictions)
    return 0


def generate(arguments: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Let the model write, and say what the metrics leave out.

    Raises: ConfigError, if a file is asked for that stands in the folder anyway.
    """
    import sys

    from fourierft.errors import ConfigError
    from fourierft.training.generation.decoding import Decoding
    from fourierft.training.generation.run import generate

    if arguments.output or arguments.predictions:
        raise ConfigError(
            f"--generate {arguments.generate} already writes predictions and metrics "
            "to that folder; leave out --output and --predictions"
        )
    metrics = generate(
        arguments.directory,
        data,
        arguments.generate,
        Decoding(
            num_beams=arguments.num_beams,
            length_penalty=arguments.length_penalty,
            no_repeat_ngram_size=arguments.no_repeat_ngram_size,
            max_new_tokens=arguments.max_new_tokens,
        ),
        base_model=arguments.model_name_or_path,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        use_cpu=arguments.use_cpu,
        allow_other_base=arguments.allow_other_base,
        without_adapter=arguments.without_adapter,
        wordnet=arguments.wordnet,
        overwrite=arguments.overwrite,
    )
    if not metrics["meteor_synonyms"]:
        print(
            "fourierft: METEOR counted exact words and stems but no synonyms, because "
            "WordNet is missing; install Debian's wordnet-base, or name a folder with "
            "--wordnet, and run the same command again",
            file=sys.stderr,
        )
    return {name: value for name, value in metrics.items() if type(value) in (int, float)}


def print_metrics(metrics: dict[str, Any]) -> None:
    from fourierft.tables import align_columns

    print(
        align_columns(
            [(name, f"{value:.4f}" if isinstance(value, float) else str(value)) for name, value in metrics.items()]
        )
    )

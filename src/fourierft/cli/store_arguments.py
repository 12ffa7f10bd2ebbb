"""What the actions of `fourierft store` take."""

from __future__ import annotations

import argparse

from fourierft.cli.parser import add_base


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, example: str) -> argparse.ArgumentParser:
        added = actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.\n\n  fourierft store {name} {example}",
        )
        added.add_argument("store", metavar="STORE", help="file of the store, or postgresql://user@host/database")
        return added

    add = action(
        "add",
        "add a FourierFT adapter; the first one creates the store for its base model",
        "fleet.db reviews runs/reviews",
    )
    add.add_argument(
        "name", metavar="NAME", help="name of the adapter, 1 to 500 characters; an existing name gets a new version"
    )
    add.add_argument("adapter", metavar="ADAPTER_DIR", help="folder or hub id of the adapter")
    add.add_argument("--new", action="store_true", help="refuse a name that exists")
    bulk = action("import", "add every FourierFT adapter below a folder, named by its path there", "fleet.db runs")
    bulk.add_argument(
        "folder", metavar="DIR", help="folder with adapters in its sub-folders, or one that `store export` wrote"
    )
    bulk.add_argument("--update", action="store_true", help="also add next versions of names that exist")
    for one in (add, bulk):
        one.add_argument(
            "--dtype",
            default="float32",
            help="dtype of the coefficients in the store: float32, bfloat16 or int8 (default: %(default)s)",
        )
        add_base(one, "folder or hub id of the base, if not the one the adapter names")
        one.add_argument(
            "--allow_other_base",
            action="store_true",
            help="accept adapters made for another base model of the same shapes (default: refuse)",
        )
    export = action("export", "write all adapters as PEFT folders", "fleet.db out")
    export.add_argument("output", metavar="OUT_DIR", help="folder to write; must be new or empty")
    get = action("get", "write an adapter as a PEFT folder", "fleet.db reviews@live out/reviews")
    get.add_argument("name", metavar="NAME", help="name of the adapter, NAME@VERSION or NAME@ALIAS")
    get.add_argument("output", metavar="OUT_DIR", help="folder to write; must be new or empty")
    get.add_argument("--version", type=int, metavar="N", help="version (default: the latest)")
    listing = action("list", "list the adapters by name", "fleet.db --prefix customer-")
    listing.add_argument("--prefix", default="", metavar="TEXT", help="only names that begin with TEXT")
    listing.add_argument("--versions", action="store_true", help="list all versions, not only the latest")
    listing.add_argument("--json", action="store_true", help="print JSON, one object on each line, instead of a table")
    remove = action("rm", "remove an adapter, or one version of it", "fleet.db reviews --version 1")
    remove.add_argument("name", metavar="NAME", help="name of the adapter")
    remove.add_argument("--version", type=int, metavar="N", help="remove only this version")
    remove.add_argument(
        "--erase", action="store_true", help="leave no bytes of it in the store; this rewrites the store"
    )
    backup = action("backup", "write everything in the store at one moment into a new store file", "fleet.db sunday.db")
    backup.add_argument("file", metavar="FILE", help="file to write; must not exist")
    restore = action("restore", "replace everything in the store by the content of a backup", "fleet.db sunday.db")
    restore.add_argument("file", metavar="FILE", help="backup to read")
    score = action(
        "evaluate",
        "score each adapter on the rows that name it, and list those whose score fell",
        "fleet.db --test_file rows.csv --adapter_column customer --output now.jsonl --before old.jsonl",
    )
    score.add_argument("--test_file", metavar="FILE", required=True, help="csv, tsv, json, jsonl or parquet file")
    score.add_argument(
        "--adapter_column",
        metavar="COLUMN",
        default="adapter",
        help="column that names each row's adapter (default: adapter)",
    )
    score.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="file of scores to write, as JSON lines; if it exists, the command continues it",
    )
    score.add_argument(
        "--before",
        metavar="FILE",
        help="earlier scores, such as on the base before a change; lists the adapters that fell",
    )
    score.add_argument(
        "--tolerance",
        metavar="X",
        type=float,
        default=0.01,
        help="list only falls of the main metric larger than this (default: 0.01)",
    )
    score.add_argument("--sample", metavar="N", type=int, help="score N random adapters (default: all)")
    score.add_argument(
        "--seed", metavar="SEED", type=int, default=42, help="seed that draws these adapters (default: 42)"
    )
    score.add_argument("--batch_size", metavar="SIZE", type=int, default=32, help="rows in a batch (default: 32)")
    score.add_argument("--use_cpu", action="store_true", help="use the CPU even if there is an accelerator")
    add_base(score, "folder or hub id of the base to score on, if not the one the adapters name")
    score.add_argument(
        "--allow_other_base",
        action="store_true",
        help="accept a base model that the adapters were not made for (default: refuse)",
    )
    alias = action(
        "alias", "let NAME@ALIAS mean a version; without ALIAS, list the aliases", "fleet.db reviews live --version 3"
    )
    alias.add_argument("name", metavar="NAME", help="name of the adapter")
    alias.add_argument("alias", metavar="ALIAS", nargs="?", help="alias, such as live")
    alias.add_argument("--version", type=int, metavar="N", help="version (default: the latest)")
    alias.add_argument("--remove", action="store_true", help="remove the alias, but not the version")
    action("verify", "read and check every byte; exit with status 1 if something is damaged", "fleet.db")
    stats = action(
        "stats",
        "show the number of adapters, bytes, norms of dW by layer, duplicates and neighbours",
        "fleet.db --near reviews --map fleet.png",
    )
    stats.add_argument("--near", metavar="NAME", help="also list the adapters whose dW are most similar to NAME's")
    stats.add_argument(
        "--map", metavar="FILE", help="draw a map of the adapters by similarity into FILE (.png, .svg, .pdf)"
    )
    stats.add_argument("--json", action="store_true", help="print JSON instead of a table")

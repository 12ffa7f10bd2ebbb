"""Keep thousands of adapters of one base model in one file, by name and version.

STORE is a SQLite file, which the first adapter creates. For several machines it can be a PostgreSQL database,
postgresql://user@host/database. A name is any text. Adding to an existing name makes its next version; nothing in the
store is ever changed. A write that was confirmed is on disk, whatever happens next.

  fourierft store add fleet.db reviews runs/reviews           keep it as float32, which loses nothing
  fourierft store add fleet.db tweets runs/tweets --dtype int8   a quarter of the bytes; prints the loss
  fourierft store get fleet.db reviews out/reviews            write it as a PEFT folder, as it was added
  fourierft store import fleet.db runs                        add every adapter below runs, named by its path there
  fourierft store export fleet.db out                         write all adapters as PEFT folders
  fourierft store stats fleet.db --near reviews --map fleet.png
  fourierft store verify fleet.db
  fourierft store evaluate fleet.db --test_file rows.csv --adapter_column customer --output now.jsonl --before old.jsonl
  fourierft store alias fleet.db reviews live --version 3     from now on, reviews@live is version 3
  fourierft store get fleet.db reviews@live out/live          reviews@2 would be version 2
  fourierft store rm fleet.db reviews --version 1
  fourierft store rm fleet.db reviews --erase                 leave no bytes of it in the file
  fourierft store backup fleet.db sunday.db                   while others write; for PostgreSQL use pg_dump
  fourierft store restore fleet.db sunday.db                  replace the content of the store, in one transaction

`fourierft store ACTION --help` explains each action. `fourierft blend` adds up adapters of a store.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

from fourierft.cli.frame import saying_what_stays
from fourierft.cli.parser import add_base
from fourierft.cli.store_stats import show_stats
from fourierft.errors import ConfigError
from fourierft.tables import escape_controls, show_columns

if TYPE_CHECKING:
    from fourierft.store import AdapterStore, Listed


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


def run(arguments: argparse.Namespace) -> int:
    from fourierft.store import AdapterStore

    actions = {"add": _add, "import": _import, "export": _export, "get": _get, "list": _list, "rm": _remove}
    actions |= {"verify": _verify, "stats": _stats, "alias": _alias}
    actions |= {"backup": _backup, "restore": _restore, "evaluate": _evaluate}
    with AdapterStore(arguments.store, create=arguments.action in ("add", "import", "restore")) as store:
        return actions[arguments.action](store, arguments)


def _add(store: AdapterStore, arguments: argparse.Namespace) -> int:
    from fourierft.format.checkpoint import read_checkpoint
    from fourierft.store import measure_loss

    version = store.add(
        arguments.name,
        arguments.adapter,
        arguments.dtype,
        exist_ok=not arguments.new,
        base=arguments.model_name_or_path,
        allow_other_base=arguments.allow_other_base,
    )
    kept = store.get(arguments.name, version)
    before = len(store.versions(arguments.name)) - 1
    older = f", beside {before} older version{'s' * (before != 1)}" if before else ""
    print(
        f"added {arguments.name!r} version {version}{older}: {len(kept.layout.layers)} layers, "
        f"{kept.layout.total:,} coefficients as {kept.dtype}"
    )
    lost = measure_loss(read_checkpoint(arguments.adapter), kept).describe(kept.dtype)
    if lost:
        print(f"note: {lost}")
    return 0


def _import(store: AdapterStore, arguments: argparse.Namespace) -> int:
    from fourierft.store import import_folder

    with saying_what_stays("what was added stays, and the same command adds the rest"):
        how = (arguments.dtype, arguments.update, arguments.model_name_or_path, _tell, arguments.allow_other_base)
        added, there, failed = import_folder(store, arguments.folder, *how)
    print(f"added {added:,}, skipped {there:,} that exist, {failed:,} failed; the store has {len(store):,}")
    return 1 if failed else 0


def _export(store: AdapterStore, arguments: argparse.Namespace) -> int:
    from fourierft.store import export_all

    written, failed = export_all(store, arguments.output, _tell)
    lost = f", {failed} failed" if failed else ""
    print(f"wrote {written:,} adapters into {arguments.output}{lost}")
    return 1 if failed else 0


def _tell(line: str) -> None:
    tqdm.write(f"fourierft: {line}", file=sys.stderr)


def _get(store: AdapterStore, arguments: argparse.Namespace) -> int:
    name, version = arguments.name, arguments.version
    if version is None:
        _, name, version = store.resolve(name)
    adapter = store.export(name, arguments.output, version)
    print(f"wrote {arguments.output}: {name!r} version {adapter.version}, kept as {adapter.dtype}")
    return 0


def _list(store: AdapterStore, arguments: argparse.Namespace) -> int:
    found = store.list(arguments.prefix, arguments.versions)
    if arguments.json:
        for listed in found:
            print(json.dumps(listed._asdict(), ensure_ascii=False))
        return 0
    rows = [("name", "version", "dtype", "n", "bytes", "created", "metrics")]
    print(show_columns(rows + [_cells(listed) for listed in found], headings=True))
    return 0


def _cells(listed: Listed) -> tuple[str, ...]:
    from fourierft.adapters.card import read_scores

    scores = [(score.label, score.value) for score in read_scores(listed.metrics)]
    numbers = [(name, value) for name, value in listed.metrics.items() if isinstance(value, float)]
    return (
        escape_controls(listed.name),
        str(listed.version),
        listed.dtype,
        f"{listed.n:,}",
        f"{listed.bytes:,}",
        listed.created,
        ", ".join(f"{escape_controls(name)} {value:.4g}" for name, value in (scores or numbers)[:3]),
    )


def _remove(store: AdapterStore, arguments: argparse.Namespace) -> int:
    count = store.remove(arguments.name, arguments.version, arguments.erase)
    done = f"{'erased' if arguments.erase else 'removed'} {count} version{'s' * (count != 1)} of {arguments.name!r}"
    again = f"the store holds no {arguments.name!r}: nothing was removed, and freed bytes were erased"
    print(done if count else again)  # an erasing that could not be ended is repeated for a name that is gone
    return 0


def _backup(store: AdapterStore, arguments: argparse.Namespace) -> int:
    from fourierft.store import AdapterStore

    store.backup(arguments.file)
    with AdapterStore(arguments.file, create=False) as copy:
        faults = copy.verify()
        print("\n".join([*faults, f"wrote {arguments.file}: {len(copy):,} adapters, {len(faults) or 'no'} damaged"]))
    return 1 if faults else 0


def _restore(store: AdapterStore, arguments: argparse.Namespace) -> int:
    count = store.restore(arguments.file)
    print(f"restored {arguments.store} from {arguments.file}: {len(store):,} adapters, {count:,} versions")
    return 0


def _alias(store: AdapterStore, arguments: argparse.Namespace) -> int:
    name, alias, version = arguments.name, arguments.alias, arguments.version
    if alias is None:
        if arguments.remove or version is not None:
            raise ConfigError("--remove needs an alias; give it after the name, such as NAME live")
        found = store.aliases(store.resolve(name).name).items()
        rows = [(escape_controls(f"{name}@{key}"), str(number)) for key, number in found]
        print(show_columns([("alias", "version"), *rows], headings=True))
    elif arguments.remove:
        store.remove_alias(name, alias)
        print(f"removed {f'{name}@{alias}'!r}")
    else:
        before = store.aliases(name).get(alias)
        version = store.set_alias(name, alias, version)
        was = "" if before in (None, version) else f", before {before}"
        print(f"{f'{name}@{alias}'!r} is version {version}{was}")
    return 0


def _evaluate(store: AdapterStore, arguments: argparse.Namespace) -> int:
    from fourierft.training.arguments import DataArguments
    from fourierft.training.files import hide_progress
    from fourierft.training.store_scores import StoreTest, find_fallen, read_scores, score_store

    before = read_scores(arguments.before) if arguments.before else []
    hide_progress()
    names = ("sample", "seed", "batch_size", "use_cpu", "allow_other_base")
    test = StoreTest(
        DataArguments(test_file=arguments.test_file),
        arguments.adapter_column,
        arguments.model_name_or_path,
        **{name: getattr(arguments, name) for name in names},
    )
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        _tell(line)

    with saying_what_stays(f"{arguments.output} has the scores so far, and the same command goes on from there"):
        scores = score_store(store, test, arguments.output, tell)
    falls = find_fallen(before, scores, arguments.tolerance) if before else []
    rows = [(escape_controls(fall.name), fall.metric, f"{fall.before:.4f}", f"{fall.now:.4f}") for fall in falls]
    if rows:
        print(show_columns([("fell", "metric", "before", "now"), *rows], headings=True))
    compared = f", {len(falls) or 'none'} fell" if before else ""
    print(f"scored {len(scores):,} adapters{compared}; {arguments.output} has the scores")
    return 1 if falls or any("not scored" in line for line in told) else 0


def _verify(store: AdapterStore, arguments: argparse.Namespace) -> int:
    faults = store.verify()
    for fault in faults:
        print(fault)
    print(f"{len(store):,} adapters, {len(faults) or 'no'} fault{'s' * (len(faults) != 1)}")
    return 1 if faults else 0


def _stats(store: AdapterStore, arguments: argparse.Namespace) -> int:
    return show_stats(store, arguments.near, arguments.map, arguments.json)

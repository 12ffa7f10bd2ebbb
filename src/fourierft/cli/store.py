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
from fourierft.cli.store_arguments import add_arguments as add_arguments
from fourierft.cli.store_stats import show_stats
from fourierft.errors import ConfigError
from fourierft.tables import escape_controls, show_columns

if TYPE_CHECKING:
    from fourierft.store import AdapterStore, Listed


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
            flag = "--remove" if arguments.remove else "--version"
            raise ConfigError(f"{flag} needs an alias; give it after the name, such as NAME live")
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

"""Every adapter of a store scored on its own rows, to see which ones fell since another base, release or version."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fourierft.bars import bar
from fourierft.errors import ConfigError, DataError, FourierFTError, OutputExistsError
from fourierft.files import check_file
from fourierft.format.identity import identify_base
from fourierft.store import Adapter, AdapterStore
from fourierft.training import output
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import as_text, read_column
from fourierft.training.columns import require_columns
from fourierft.training.data import load_test
from fourierft.training.evaluation import Trained, find_test, load_trained, score_test
from fourierft.training.families.registry import lower_is_better
from fourierft.training.lock import alone_with
from fourierft.training.output import read_json_lines
from fourierft.training.report import without_nan
from fourierft.tuner.hotswap import hotswap_adapter

_ALIKE = (  # what two trainings must share for one model to take the numbers of both
    *("task", "labels", "inputs", "method", "max_length", "dtype", "quantization", "tokenizer", "processor"),
    *("base_model", "revision", "heads"),
)


class Fall(NamedTuple):
    """An adapter that is worse than it was.

    Fields:
        metric: main metric of its task.
        before, now: its values.
    """

    name: str
    metric: str
    before: float
    now: float

    @property
    def size(self) -> float:
        return self.now - self.before if lower_is_better(self.metric) else self.before - self.now


@dataclass(frozen=True)
class StoreTest:
    """How a store is scored.

    Attributes:
        data: whose `test_file`, or data set, has the rows.
        column: of the adapter's name.
        base_model: to score on; that which each adapter names if None.
        sample: how many adapters to score, drawn by the seed; None for all.
        allow_other_base: take a model of the same shapes that the adapters were not made for.
    """

    data: DataArguments
    column: str = "adapter"
    base_model: str | None = None
    sample: int | None = None
    seed: int = 42
    batch_size: int = 32
    use_cpu: bool = False
    allow_other_base: bool = False


def score_store(
    store: AdapterStore, test: StoreTest, file: str | Path, tell: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Score the latest versions on the rows that name them; each score is a line of a file as soon as it is known.

    Called again with the same file, it goes on where it was stopped.

    Args:
        store: of the adapters.
        test: how.
        file: of JSON lines: what was scored, then name, version, rows and metrics of an adapter each.
        tell: gets a sentence for each adapter that cannot be scored.

    Returns: the lines of adapters.

    Raises: DataError, if no row names an adapter of the store. OutputExistsError, if the file is of another test.
        ConfigError, if the sample is none. BusyError, if another process writes the file. PlaceError, if nobody can.
    """
    if test.sample is not None and test.sample < 1:
        raise ConfigError(f"sample={test.sample} is too small; use 1 or more")
    rows = load_test(test.data)
    require_columns(rows, [test.column])
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(as_text(cell) for cell in read_column(rows, test.column)):
        if name is not None:
            numbers.setdefault(name, []).append(number)
    there = sorted(name for name in numbers if name in store)
    if not there:
        raise DataError(f"no row names an adapter of {store} in its column {test.column}; name another column")
    for name in sorted(numbers.keys() - set(there))[:10]:
        tell(f"{name!r} is in the rows, but not in {store}")
    if test.sample is not None and test.sample < len(there):
        there = sorted(random.Random(test.seed).sample(there, test.sample))
    check_file(file)
    with alone_with(Path(file)):
        done = _begin(Path(file), _describe(store, test, rows))
        for line in _score(store, test, rows, {name: numbers[name] for name in there}, done, tell):
            output.append_json_line(Path(file), line)
            done[line["name"], line["version"]] = line
    return [done[key] for key in sorted(done)]


def _score(
    store: AdapterStore,
    test: StoreTest,
    rows: Any,
    numbers: Mapping[str, list[int]],
    done: Container[tuple[str, int]],
    tell: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """The line of each adapter whose latest version is not done yet; who cannot be scored is told."""
    model: _Model | None = None
    for name in bar(numbers, "scoring", "adapters", delay=1):
        try:
            version = store.resolve(name).version
            if (name, version) in done:
                continue
            adapter = store.get(name, version)
            model = _Model.of(adapter, test, model)
            found = find_test(model.trained.record, rows.select(numbers[name]), test.data)
            metrics = score_test(model.trained, found, test.batch_size, test.use_cpu, shows_bar=False).metrics
        except FourierFTError as error:
            model = None
            tell(f"{name!r} was not scored: {error}")
            continue
        family = model.trained.family
        kept = without_nan({key: metrics[key] for key in ("loss", *family.metrics) if key in metrics})
        yield {
            "name": name,
            "version": version,
            "rows": len(numbers[name]),
            "main": family.main_metric,
            "metrics": kept,
        }


def read_scores(file: str | Path) -> list[dict[str, Any]]:
    """The lines of adapters in a file of `score_store`.

    Raises: DataError, if it is none.
    """
    if not Path(file).is_file():
        raise DataError(f"there is no file {file}; name one that `fourierft store evaluate` wrote")
    strange = DataError(f"{file} is not what `fourierft store evaluate` writes; name another file")
    try:
        lines = [line for line in read_json_lines(Path(file)) if isinstance(line, dict)]
    except (DataError, UnicodeDecodeError) as error:
        raise strange from error
    if not lines or "scored" not in lines[0] or not all("metrics" in line for line in lines[1:]):
        raise strange
    return lines[1:]


def find_fallen(before: list[dict[str, Any]], now: list[dict[str, Any]], tolerance: float) -> list[Fall]:
    """The adapters whose main metric is worse by more than the tolerance, the worst first."""
    known = {line["name"]: line["metrics"] for line in before}
    falls = []
    for line in now:
        metric, values = line["main"], known.get(line["name"], {})
        pair = values.get(metric), line["metrics"].get(metric)
        if None not in pair:
            falls.append(Fall(line["name"], metric, *pair))
    return sorted((fall for fall in falls if fall.size > tolerance), key=lambda fall: -fall.size)


@dataclass(frozen=True)
class _Model:
    """A model that has the numbers of one adapter, and can take those of others alike."""

    trained: Trained
    key: tuple[str, str]

    @classmethod
    def of(cls, adapter: Adapter, test: StoreTest, before: _Model | None) -> _Model:
        record = json.loads(adapter.record) if adapter.record else {}
        alike = json.dumps([record.get(key) for key in _ALIKE], sort_keys=True)
        key = (adapter.layout.digest, alike)
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "adapter"
            adapter.write(directory)
            if before is not None and before.key == key and record.get("method") == "fourierft":
                hotswap_adapter(before.trained.model, directory)
                return before
            return cls(load_trained(directory, test.base_model, test.allow_other_base), key)


def _describe(store: AdapterStore, test: StoreTest, rows: Any) -> dict[str, Any]:
    """What was scored: a file of scores goes on with nothing else."""
    digest = hashlib.sha256()
    for row in _plain(rows):
        digest.update(row)
    base = identify_base(test.base_model) if test.base_model else store.base
    named = {"base": base.describe() if base else None, "sample": test.sample, "seed": test.seed}
    return {"scored": {**named, "column": test.column, "rows": len(rows), "sha256": digest.hexdigest()}}


def _plain(rows: Any) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(row, sort_keys=True, default=str).encode()


def _begin(file: Path, what: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """What is in the file already; it is begun where there is none."""
    if not file.exists():
        output.append_json_line(file, dict(what))
        return {}
    lines = read_scores(file)
    if read_json_lines(file)[0] != json.loads(json.dumps(what)):
        raise OutputExistsError(f"{file} has scores of another base, file or sample; name another file, or remove it")
    return {(line["name"], line["version"]): line for line in lines}

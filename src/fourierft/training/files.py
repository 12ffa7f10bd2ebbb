"""Files of rows as data sets, in which every row knows its place.

A file of text is read once into Arrow's format in the cache of datasets, under a name that changes when the file does,
so that rows need not fit into memory, and several processes share them.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourierft import __version__
from fourierft.errors import DataError, MissingExtraError
from fourierft.extras import needs
from fourierft.files import file_beside
from fourierft.training.cells import FILE, NESTED, PLACE, ROW, mark_places
from fourierft.training.delimited import DelimitedFile
from fourierft.training.objects import cell_text, read_objects
from fourierft.training.text_file import PACKED, check_kind, describe_undecodable, open_text

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
FORMATS = (*TEXT_FORMATS, ".parquet")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
OTHER_PACKINGS = (".zst", ".zip", ".7z", ".tar", ".tgz", ".rar")
OTHER_TABLES = (".arrow", ".feather", ".orc", ".avro", ".pkl", ".pickle", ".sqlite", ".db")
_VERSION = 2  # of what is read from a file of text
_BATCH = 1000  # rows


def read_file(path: str | Path, name: str | None = None) -> Dataset:
    """The rows of a csv, tsv, json, jsonl or parquet file; one of text may be packed (.gz, .bz2, .xz).

    Args:
        path: of the file.
        name: that rows know it by, and whose suffixes say what it is; `path` if None.

    Raises: DataError, if the file is missing, empty, of another format, or can't be read.
    """
    path, name = Path(path), name or str(path)
    suffix = find_format(name)
    if path.is_dir():
        raise DataError(f"{name} is a folder; give a folder as --dataset_name, or name one of its files")
    if suffix not in FORMATS:
        raise DataError(f"{name} is of unknown format {suffix or '(no suffix)'}; {_advise(suffix)}")
    if not path.is_file():
        raise DataError(f"data file {name} does not exist; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"data file {name} is empty; give one with at least one row")
    check_kind(path, name, suffix in TEXT_FORMATS and path.suffix.lower() not in PACKED)
    if suffix == ".parquet":
        rows = load(name, lambda load: load("parquet", data_files=str(path), split="train"))
        rows = mark_places(rows, name)
    else:
        rows = _read_text(path, name)
    if len(rows) == 0:
        raise DataError(f"{name} has no rows; give at least one")
    return rows


def load(name: str, read: Callable[[Callable[..., Any]], Any]) -> Any:
    """What datasets reads.

    Args:
        name: of it, for errors.
        read: is given `load_dataset`.

    Raises: DataError, if it can't be read. MissingExtraError, without datasets.
    """
    datasets = import_datasets()
    try:
        return read(datasets.load_dataset)
    except (datasets.exceptions.DatasetsError, ValueError, OSError, RuntimeError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        if "corresponds to no data" in reason:  # what datasets says of a file that is a header and nothing else
            raise DataError(f"{name} has no rows; give at least one") from error
        raise DataError(f"{name} can't be read: {reason}") from error


def import_datasets() -> Any:
    """The module datasets.

    Raises: MissingExtraError, if it is not installed.
    """
    with needs("train", "reading data"):
        import datasets
    return datasets


def hide_progress() -> None:
    """Have datasets, where it is installed, draw no progress bars."""
    with suppress(MissingExtraError):
        import_datasets().disable_progress_bars()


def find_format(name: str) -> str:
    """The suffix that says what a file holds, whether it is packed or not."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in PACKED else suffixes[-1] if suffixes else ""


def _advise(suffix: str) -> str:
    """What to do about a file of an unknown format."""
    if suffix in SPREADSHEETS:
        return "save it as CSV UTF-8"
    if suffix in OTHER_PACKINGS:
        return f"unpack it first, or pack it as one of {', '.join(PACKED)}"
    return f"{'save its table as parquet, or ' if suffix in OTHER_TABLES else ''}use one of {', '.join(FORMATS)}"


def _read_text(path: Path, name: str) -> Dataset:
    """The rows of a file of text, from the cache if they are there."""
    datasets = import_datasets()
    state = path.stat()
    key = [__version__, _VERSION, name, str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "fourierft"
    target = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.arrow"
    if not target.exists():
        convert = _convert_delimited if find_format(name) in (".csv", ".tsv") else _convert_json
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with file_beside(target) as beside:
                convert(path, name, str(beside))
        except UnicodeDecodeError as error:
            raise DataError(f"{name} can't be read: {describe_undecodable(path)}") from error
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            if getattr(error, "errno", None) is None:
                raise DataError(f"{name} can't be unpacked: {error}; download or pack it again") from error
            raise DataError(
                f"{name} can't be read, because the cache {folder} does not work ({error}); "
                "set HF_DATASETS_CACHE to a writable folder with room"
            ) from error
    return datasets.Dataset.from_file(str(target))


def _convert_delimited(path: Path, name: str, target: str) -> None:
    with open_text(path, name, newline="") as stream:
        file = DelimitedFile(stream, name, "\t" if find_format(name) == ".tsv" else None)
        _write(dict.fromkeys(file.names, False), file.rows(), name, target)


def _convert_json(path: Path, name: str, target: str) -> None:
    """Read twice: once for the columns, which any row may add to, and once for the rows."""
    columns: dict[str, bool] = {}
    with open_text(path, name) as stream:
        for _, row in read_objects(stream, name):
            for column, value in row.items():
                columns[column] = columns.get(column, False) or isinstance(value, dict | list)
    with open_text(path, name) as stream:
        rows = read_objects(stream, name)
        cells = (
            (number, [cell_text(row.get(key), is_json) for key, is_json in columns.items()]) for number, row in rows
        )
        _write(columns, cells, name, target)


def _write(columns: dict[str, bool], rows: Iterable[tuple[int, Sequence[str | None]]], name: str, target: str) -> None:
    """Write rows in Arrow's format, with the features of datasets.

    Args:
        columns: whether each holds JSON, by name.
        rows: their numbers and cells.
    """
    import pyarrow as pa

    datasets = import_datasets()
    text = datasets.Value("string")
    taken = next((column for column in columns if column in PLACE), None)
    if taken is not None:
        raise DataError(f"{name} has a column {taken}, a name that this package uses itself; rename it")
    kinds = {column: {NESTED: text} if is_json else text for column, is_json in columns.items()}
    schema = datasets.Features({**kinds, FILE: text, ROW: datasets.Value("int64")}).arrow_schema
    rows = iter(rows)
    with pa.OSFile(target, "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            cells = zip(*(row for _, row in batch), strict=True)
            held: list[Any] = [
                [{NESTED: cell} for cell in column] if is_json else column
                for column, is_json in zip(cells, columns.values(), strict=True)
            ]
            try:
                arrays = [pa.array(column, type=field.type) for column, field in zip(held, schema, strict=False)]
            except UnicodeEncodeError as error:
                raise DataError(_describe_half(name, batch)) from error
            arrays += [pa.repeat(name, len(batch)), pa.array([number for number, _ in batch], type=pa.int64())]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _describe_half(name: str, rows: Sequence[tuple[int, Sequence[str | None]]]) -> str:
    """Which row holds half a character, as the escape ud83d in JSON alone is."""
    halves = re.compile("[\ud800-\udfff]")
    number = next(number for number, row in rows if any(halves.search(cell or "") for cell in row))
    return f"row {number} of {name} has half of a character, perhaps because a text was cut; correct or remove the row"

"""Files of rows as data sets, in which every row knows its place.

A file of text is read once into Arrow's format in the cache of datasets, under a name that changes when the file does,
so that rows need not fit into memory, and several processes share them.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import json
import lzma
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fourierft import __version__
from fourierft.errors import DataError, MissingExtraError
from fourierft.extras import needs
from fourierft.training.cells import FILE, NESTED, PLACE, ROW, mark_places
from fourierft.training.delimited import DelimitedFile
from fourierft.training.objects import read_objects, written

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
FORMATS = (*TEXT_FORMATS, ".parquet")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_VERSION = 1  # of what is read from a file of text
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
    if suffix not in FORMATS:
        hint = "save it as CSV UTF-8" if suffix in SPREADSHEETS else f"use one of {', '.join(FORMATS)}"
        raise DataError(f"{name} is of unknown format {suffix or '(no suffix)'}; {hint}")
    if not path.is_file():
        raise DataError(f"data file {name} does not exist; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"data file {name} is empty; give one with at least one row")
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


def _read_text(path: Path, name: str) -> Dataset:
    """The rows of a file of text, from the cache if they are there."""
    datasets = import_datasets()
    state = path.stat()
    key = [__version__, _VERSION, name, str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "fourierft"
    target = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.arrow"
    if not target.exists():
        convert = _convert_delimited if find_format(name) in (".csv", ".tsv") else _convert_json
        beside = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(prefix=f".{target.stem}-", dir=folder)
            os.close(handle)
            convert(path, name, beside)
            os.replace(beside, target)
        except UnicodeError as error:
            where = _find_undecodable(path) or str(error)
            raise DataError(f"{name} can't be read: {where}; save it in UTF-8 (in Excel: CSV UTF-8)") from error
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise DataError(f"{name} can't be read by way of the cache {folder}: {error}") from error
        finally:
            if beside is not None and os.path.exists(beside):
                os.unlink(beside)
    return datasets.Dataset.from_file(str(target))


def _convert_delimited(path: Path, name: str, target: str) -> None:
    with _open(path, newline="") as stream:
        file = DelimitedFile(stream, name, "\t" if find_format(name) == ".tsv" else None)
        _write(dict.fromkeys(file.names, False), file.rows(), name, target)


def _convert_json(path: Path, name: str, target: str) -> None:
    """Read twice: once for the columns, which any row may add to, and once for the rows."""
    columns: dict[str, bool] = {}
    with _open(path) as stream:
        for _, row in read_objects(stream, name):
            for column, value in row.items():
                columns[column] = columns.get(column, False) or isinstance(value, dict | list)
    with _open(path) as stream:
        rows = read_objects(stream, name)
        cells = ((number, [written(row.get(key), is_json) for key, is_json in columns.items()]) for number, row in rows)
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
        raise DataError(f"{name} has a column {taken}, a name that this package needs; rename it")
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
            arrays = [pa.array(column, type=field.type) for column, field in zip(held, schema, strict=False)]
            arrays += [pa.repeat(name, len(batch)), pa.array([number for number, _ in batch], type=pa.int64())]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _open(path: Path, newline: str | None = None) -> TextIO:
    """A file of text, unpacked, in the encoding that its first bytes mark, or else UTF-8.

    Raises: UnicodeError, if they are not those of text.
    """
    opener = PACKED.get(path.suffix.lower(), open)
    with opener(path, "rb") as file:
        begin = file.read(4)
    encoding = next((encoding for mark, encoding in _MARKS if begin.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in begin:
        raise UnicodeError("it holds zero bytes, as text in UTF-16 without its mark does")
    return TextIOWrapper(opener(path, "rb"), encoding=encoding, newline=newline)


def _find_undecodable(path: Path) -> str | None:
    """Where the first byte stands that is not UTF-8; None if that is not what is wrong."""
    with PACKED.get(path.suffix.lower(), open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"line {number} is not UTF-8, but has the byte {line[error.start]:#04x}"
    return None

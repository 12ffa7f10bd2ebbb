"""A file of text, unpacked and in its encoding; what is none is told, with what it is."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from fourierft.errors import DataError

PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    *((mark, "utf-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),  # the first begins like UTF-16's
    *((mark, "utf-16") for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
_REMEDY = "save it in UTF-8 (in Excel: CSV UTF-8)"
_STRANGERS = (
    (b"version https://git-lfs", "is not the file, but what Git LFS keeps in its place; fetch it with `git lfs pull`"),
    (b"<!doctype html", "is a web page, as where a download asks for a login; download it again"),
    (b"<html", "is a web page, as where a download asks for a login; download it again"),
)
_KINDS = (
    (b"\x1f\x8b", "is packed by gzip; let its name end in .gz"),
    (b"BZh", "is packed by bzip2; let its name end in .bz2"),
    (b"\xfd7zXZ", "is packed by xz; let its name end in .xz"),
    (b"\x28\xb5\x2f\xfd", "is packed by zstd; unpack it first (zstd -d)"),
    (b"PK\x03\x04", "is a zip archive, as workbooks of Excel are; unpack it, or save its sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is a workbook of Excel; save its sheet as CSV UTF-8"),
    (b"PAR1", "is a parquet file; let its name end in .parquet"),
    (b"ARROW1", "is a file of Arrow; save it as parquet"),
    (b"SQLite format 3", "is a database of SQLite; export its table as csv, with a header"),
    (b"%PDF", "is a PDF; give a table"),
)
_BEGINNING = 1024  # bytes


def check_kind(path: Path, name: str, is_text: bool) -> None:
    """Raise DataError if the first bytes of a file are those of another kind of file.

    Args:
        name: of it, for errors.
        is_text: whether it is to hold text, not packed.
    """
    with path.open("rb") as file:
        begin = file.read(_BEGINNING).lstrip()
    for mark, what in (*_STRANGERS, *(_KINDS if is_text else ())):
        if begin.startswith(mark) or begin.lower().startswith(mark):
            raise DataError(f"{name} {what}")


def open_text(path: Path, name: str, newline: str | None = None) -> TextIO:
    """A file of text, unpacked, in the encoding that its first bytes mark, or else UTF-8.

    Raises: DataError, if its first line holds zero bytes, as that of UTF-16 without a mark does.
    """
    opener = PACKED.get(path.suffix.lower(), open)
    with opener(path, "rb") as file:
        begin = file.read(_BEGINNING)
    encoding = next((encoding for mark, encoding in _MARKS if begin.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in begin.partition(b"\n")[0]:
        raise DataError(f"{name} has zero bytes, like text in UTF-16 without a byte order mark; {_REMEDY}")
    return TextIOWrapper(opener(path, "rb"), encoding=encoding, newline=newline)


def describe_undecodable(path: Path) -> str:
    """Where the first byte stands that is not UTF-8, how it reads as Windows writes, and what to do."""
    with PACKED.get(path.suffix.lower(), open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                begin = max(0, error.start - 20)
                read = line[begin : error.start + 20].decode("cp1252", errors="replace").strip()
                return (
                    f"line {number} is not UTF-8, but has the byte {line[error.start]:#04x}; in cp1252, as Windows and "
                    f"Excel write, it reads {read!r}; {_REMEDY}, or if that reads right: iconv -f cp1252 -t utf-8 "
                    "FILE > NEW"
                )
    return f"it ends within a character; {_REMEDY}"

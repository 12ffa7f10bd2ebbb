"""The header of a safetensors file: names, dtypes, shapes and places of its tensors, checked before any is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fourierft.errors import CheckpointError
from fourierft.format.json_file import is_text, parse_json, shown

_LONGEST_HEADER = 100_000_000  # bytes, as the format has it
_LONGEST_NAME = 500
WIDTHS = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8, "C128": 16},
}


class TensorPlace(NamedTuple):
    """A tensor of a file: `begin` and `end` count bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """The tensors of a file by name, and how many bytes stand before the first."""

    tensors: dict[str, TensorPlace]
    start: int


def read_header(file: BinaryIO, size: int, where: Path) -> Header:
    """The header of a file of `size` bytes.

    Raises: CheckpointError, if it is none, or promises what the file cannot hold.
    """
    length = int.from_bytes(file.read(8), "little") if size >= 8 else 0
    if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
        raise CheckpointError(f"{where} is truncated or damaged (no header); save or download the adapter again")
    content = parse_json(file.read(length), where)
    if not isinstance(content, dict):
        raise _damaged(where, "its header is not an object")
    content.pop("__metadata__", None)
    return Header({name: _place(where, name, told, size - 8 - length) for name, told in content.items()}, 8 + length)


def _place(where: Path, name: str, told: Any, room: int) -> TensorPlace:
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise _damaged(where, f"{shown(name)} is not a tensor's name")
    if not isinstance(told, Mapping) or not is_text(told.get("dtype")):
        raise _damaged(where, f"{shown(name)} has no dtype")
    dtype: str = told["dtype"]
    shape: Any = told.get("shape")
    places: Any = told.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(places) or len(places) != 2 or len(shape) > 16:
        raise _damaged(where, f"{shown(name)} has the shape {shown(shape)} and the place {shown(places)}")
    begin, end = places
    if not begin <= end <= room or (dtype in WIDTHS and end - begin != math.prod(shape) * WIDTHS[dtype]):
        raise _damaged(where, f"{shown(name)} of shape {shown(shape)} has the place {shown(places)}")
    return TensorPlace(dtype, tuple(shape), begin, end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _damaged(where: Path, fault: str) -> CheckpointError:
    return CheckpointError(f"{where} is truncated or damaged ({fault}); save or download the adapter again")

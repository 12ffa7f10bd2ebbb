"""JSON from outside, read within bounds: whatever a file holds, it is read right or refused in one sentence.

JSON leaves open what a reader does with a key that comes twice, NaN, endless digits, or brackets by the thousand. Here
all of them are refused.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import stat
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from fourierft.errors import CheckpointError

LARGEST = 16 << 20  # bytes of a file
_DEEPEST = 32  # brackets within brackets
_LONGEST = 24  # digits of an integer: 64 bits have 20
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(file: Path, largest: int = LARGEST) -> Any:
    """The content of a JSON file.

    Raises: CheckpointError, if it is missing, no ordinary file, of more than `largest` bytes, or `parse_json` refuses.
    """
    return parse_json(read_bytes(file, largest), file)


def parse_json(text: str | bytes, where: str | Path) -> Any:
    """The content of a JSON text, UTF-8 if it is bytes.

    Args:
        text: of the document.
        where: it comes from, for the messages.

    Raises: CheckpointError, if it is no JSON, has a key twice in an object, NaN or infinity, an integer of more than 24
        digits, more than 32 brackets within one another, or a text that is no Unicode.
    """

    def refuse(what: str) -> NoReturn:
        raise CheckpointError(f"{where} cannot be read as JSON ({what}); save or download the adapter again")

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            refuse(f"the key {shown(next(key for key in keys if keys.count(key) > 1))} comes twice")
        return made

    def integer(digits: str) -> int:
        return int(digits) if len(digits) <= _LONGEST else refuse(f"an integer of {len(digits)} digits")

    def real(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else refuse(f"{digits[:20]} is beyond what a number can be")

    try:
        text = text.decode() if isinstance(text, bytes) else text
        content = json.loads(
            text,
            object_pairs_hook=object_of,
            parse_int=integer,
            parse_float=real,
            parse_constant=lambda name: refuse(f"{name} is not valid JSON"),
        )
    except CheckpointError:
        raise
    except RecursionError:
        refuse("brackets within brackets by the thousand")
    except ValueError as error:
        refuse(str(error))
    _check_values(content, refuse)
    return content


def read_bytes(file: Path, largest: int = LARGEST) -> bytes:
    """The bytes of an ordinary file.

    Raises: CheckpointError, if it is missing, a folder or a pipe, or larger than `largest` bytes.
    """
    descriptor = open_ordinary(file, largest)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(largest)


def open_ordinary(file: Path, largest: int) -> int:
    """A descriptor of an ordinary file, or of one that a link leads to; opening a pipe does not wait for its writer.

    Raises: CheckpointError, as `read_bytes`.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing; save or download the adapter again") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be opened ({error}); check the path and its permissions") from error
    found = os.fstat(descriptor)
    fault = "is not an ordinary file" if not stat.S_ISREG(found.st_mode) else None
    if fault is None and found.st_size > largest:
        fault = f"has {found.st_size:,} bytes, which is more than the {largest:,} that it may have"
    if fault is not None:
        os.close(descriptor)
        raise CheckpointError(f"{file} {fault}; save or download the adapter again")
    return descriptor


def shown(value: object) -> str:
    """A value in a message: on one line, and never longer than a line."""
    return _SHORT.repr(value)


def is_text(value: object, longest: int | None = None) -> TypeGuard[str]:
    """Whether a value is a text of Unicode; and where a length is given, one that any line of a terminal takes."""
    if not isinstance(value, str) or _SURROGATE.search(value) is not None:
        return False
    return longest is None or (len(value) <= longest and value.isprintable())


def is_number(value: object, least: float, most: float) -> TypeGuard[float]:
    """Whether a value is a finite number within bounds, and not true or false."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _check_values(content: Any, refuse: Any) -> None:
    """Walk through a document without recursion."""
    waiting = [(content, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str) and not is_text(value):
            refuse(f"the text {shown(value)} is not valid Unicode")
        if isinstance(value, (dict, list)):
            if depth > _DEEPEST:
                refuse(f"more than {_DEEPEST} brackets within one another")
            if isinstance(value, dict):
                waiting.extend((key, depth) for key in value)
            waiting.extend((inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40

"""The log of the server: one JSON object a line on standard error, of what was done, by whom and when.

No line has a key, a prompt or an answer, nor a character that a terminal would act upon.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOG = logging.getLogger("fourierft.requests")
_LONGEST = 1000  # characters of a text


def write_line(event: str, **fields: Any) -> None:
    """Write a line: the time, what happened, and more about it."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
    clean = {key: printable(value) if isinstance(value, str) else value for key, value in line.items()}
    LOG.info(json.dumps(clean, ensure_ascii=False))


def printable(text: str, most: int = _LONGEST) -> str:
    """A text that came from outside, cut, with `?` for what does not print."""
    cut = "".join(character if character.isprintable() else "?" for character in text[:most])
    return cut if len(text) <= most else f"{cut}..."


def log_to_stderr() -> None:
    """Write the lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)

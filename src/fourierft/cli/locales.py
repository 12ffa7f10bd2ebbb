"""Text and names of files in a locale that is not of UTF-8.

Python reads the names on the command line in the locale's encoding, and libraries in Rust or C take them for UTF-8: a
file with an umlaut in its path is another one for each, which shows when a training is to be saved.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from fourierft.errors import ConfigError


def use_utf8() -> None:
    """Begin this process anew with names of files in UTF-8, if it did not so; what is printed keeps its encoding."""
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    printed = getattr(sys.stdout, "encoding", None) or "ascii"
    environment = {"PYTHONIOENCODING": f"{printed}:backslashreplace", **os.environ, "PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def print_anything(*streams: Any) -> None:
    """Let streams take every character: one that their encoding lacks is written as its number, as in Python."""
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def check_words(words: Sequence[str]) -> None:
    """Raise ConfigError if a word of the command line is not UTF-8, as the name of a file from elsewhere may be."""
    for word in words:
        if any("\udc80" <= character <= "\udcff" for character in word):  # how Python keeps bytes that it can't read
            raise ConfigError(f"{ascii(word)[1:-1]} is not valid UTF-8, which libraries need for file names; rename it")

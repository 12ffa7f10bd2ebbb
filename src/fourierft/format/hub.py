"""The hub, and the folders that are meant to stand in its place: whether it answers, and what a name may mean."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import huggingface_hub
from huggingface_hub.errors import HTTPError

from fourierft.shared import shared

SECONDS = 10  # to wait for an answer
REMEMBERED = 60.0  # seconds for which an answer holds
_SQLITE = b"SQLite format 3\0"
_answers: dict[str, tuple[float, bool]] = {}  # address -> when it was asked, whether it answered


@contextmanager
def offline_if_unreachable(*names: str | None) -> Iterator[None]:
    """The libraries of the hub in their offline mode while this lasts, if it does not answer: they would try it again
    and again, half a minute for every file.

    Args:
        names: of what will be loaded; the hub is not asked if all of it is on this machine's disk.
    """
    are_here = all(name is None or os.path.exists(name) for name in names)
    with nullcontext() if are_here or is_reachable() else _offline():
        yield


@shared
@contextmanager
def _offline() -> Iterator[None]:
    constants: Any = huggingface_hub.constants
    with ExitStack() as stack:
        stack.enter_context(patch.object(constants, "HF_HUB_OFFLINE", True))
        if "datasets" in sys.modules:
            stack.enter_context(patch.object(sys.modules["datasets"].config, "HF_HUB_OFFLINE", True))
        yield


def is_reachable() -> bool:
    """Whether the hub answers; it is asked once a minute at most."""
    constants: Any = huggingface_hub.constants
    if constants.HF_HUB_OFFLINE:
        return False
    asked, answered = _answers.get(constants.ENDPOINT, (-REMEMBERED, False))
    if time.monotonic() - asked >= REMEMBERED:
        try:
            huggingface_hub.get_session().head(constants.ENDPOINT, timeout=SECONDS)
            answered = True
        except (HTTPError, OSError):
            answered = False
        _answers[constants.ENDPOINT] = time.monotonic(), answered
    return answered


def find_near(name: str) -> str:
    """What may be meant by a path that is not there: an adapter in a store, or the folder or file nearest to it.

    Returns: a sentence, or a question; empty if nothing is near.
    """
    path = Path(name)
    if in_store := find_in_store(name):
        return in_store
    if os.path.exists(path) or not os.path.isdir(path.parent):
        return ""
    try:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1, cutoff=0.7)
    except OSError:  # not to be listed
        return ""
    return f"did you mean {path.with_name(near[0])}?" if near else ""


def find_in_store(name: str) -> str:
    """How to get a folder where one was asked for, if a name is that of a store, or STORE:NAME; empty if it is not."""
    ends = [place for place, character in enumerate(name) if character == ":"]
    for store, adapter in (*((name[:end], name[end + 1 :]) for end in ends), (name, "NAME")):
        if _is_store(store):
            known = "STORE" if "://" in store else shlex.quote(store)  # an address may hold a password
            command = f"fourierft store get {known} {shlex.quote(adapter)} DIR"
            return f"an adapter in a store is not a folder: write it to one with `{command}`, then give DIR"
    return ""


def _is_store(name: str) -> bool:
    if re.fullmatch(r"postgres(ql)?://[^/]+/.+", name):
        return True
    try:
        with Path(name).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except (OSError, ValueError):
        return False


def is_path(name: str) -> bool:
    """Whether a name can only be that of a folder: no id of the hub begins so, or has two slashes."""
    return name.startswith((".", "~", "/")) or Path(name).is_absolute() or name.count("/") > 1

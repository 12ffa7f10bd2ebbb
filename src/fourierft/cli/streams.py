"""What becomes of output that nobody reads any more: `fourierft store list fleet.db | head`."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

READER_GONE = 141  # the status that a shell reports of a command that SIGPIPE ended


class Stream:
    """Standard output or error of a run that outlives its reader: what is written after that is dropped.

    Args:
        stream: that it stands for.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and if the reader is gone, drop."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            drop(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, and if the reader is gone, drop."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            drop(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def outliving_readers() -> Iterator[None]:
    """While this lasts, a reader of standard output or error that goes away stops nothing."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and Stream(stream) for stream in before)
    try:
        yield
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.stdout, sys.stderr = before


def drop_unread() -> bool:
    """Drop what nobody reads of standard output and error; whether there is any."""
    unread = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _is_unread(stream)]
    for stream in unread:
        drop(stream)
    return bool(unread)


def _is_unread(stream: Any) -> bool:
    """Whether a stream is a pipe whose reader is gone."""
    if not hasattr(select, "poll"):  # of Windows, where a pipe that breaks is another error
        return False
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except OSError:  # no file at all
        return False


def drop(stream: Any) -> None:
    """Let whatever is still in a stream, or comes, go nowhere; so that its end is quiet, too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

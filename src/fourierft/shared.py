"""Changes of what all threads of a process share, such as the settings of a library, where several may need them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


def shared(change: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """One change for all who need it at a time: the first makes it, and the last takes it back.

    Of two threads that each put back what they found, the second would put back the change of the first, for good.

    Args:
        change: makes it, and takes it back.
    """
    changing, made, users = threading.Lock(), ExitStack(), 0

    @functools.wraps(change)
    @contextmanager
    def use() -> Iterator[None]:
        nonlocal users
        with changing:
            if not users:
                made.enter_context(change())
            users += 1
        try:
            yield
        finally:
            with changing:
                users -= 1
                if not users:
                    made.close()

    return use

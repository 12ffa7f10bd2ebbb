"""Stock FourierFT where it is wrong: its complex transform fails on some CPU builds with several threads.

Its time is still what a user pays there, so it is measured, shown right with one thread, and marked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from lab.bench.harness import MODEL_TOLERANCE, Settings


def excuse_stock(distance: Callable[[], float], settings: Settings) -> tuple[Callable[[], float], str]:
    """The gate of stock FourierFT, and a note if it only passes with one thread."""
    if distance() <= MODEL_TOLERANCE[settings.dtype]:
        return distance, ""

    def with_one_thread() -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return distance()
        finally:
            torch.set_num_threads(threads)

    return with_one_thread, f"wrong results with {settings.threads} threads, right with one"

"""What threads change together is changed until the last is done, in whatever order they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import huggingface_hub
import pytest
import transformers
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

import fourierft
from fourierft.adapters.base import quiet
from fourierft.adapters.merge import own_tuner
from fourierft.format import hub
from fourierft.shared import shared


def is_offline() -> Any:
    constants: Any = huggingface_hub.constants
    return constants.HF_HUB_OFFLINE


CHANGES: dict[str, tuple[Callable[[], AbstractContextManager[None]], Callable[[], Any]]] = {
    "offline": (lambda: hub.offline_if_unreachable("org/base"), is_offline),
    "quiet": (quiet, lambda: (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled())),
    "own tuner": (own_tuner, lambda: PEFT_TYPE_TO_TUNER_MAPPING[PeftType.FOURIERFT]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_last_puts_back_what_was_there_before_the_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    fourierft.disable()
    change, look = CHANGES[name]
    before, first, second = look(), change(), change()
    first.__enter__()
    changed = look()
    assert changed != before
    second.__enter__()
    first.__exit__(None, None, None)
    assert look() == changed
    second.__exit__(None, None, None)
    assert look() == before
    with change():
        assert look() == changed
    assert look() == before


def test_threads_make_a_change_once_and_take_it_back_once() -> None:
    made: list[str] = []

    @shared
    @contextmanager
    def change() -> Iterator[None]:
        made.append("made")
        yield
        made.append("taken back")

    together = threading.Barrier(8)

    def use() -> None:
        with change():
            together.wait()
            assert made == ["made"]
            together.wait()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["made", "taken back"]


def test_a_change_that_cannot_be_made_can_be_tried_again() -> None:
    faults = [OSError("not now")]

    @shared
    @contextmanager
    def change() -> Iterator[None]:
        if faults:
            raise faults.pop()
        yield

    with pytest.raises(OSError, match="not now"), change():
        raise AssertionError
    with change():
        pass

"""Processes that write until they are killed, and what they were acknowledged."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fourierft.errors import FourierFTError
from fourierft.store import AdapterStore

from .damage import layout, numbers

Location = str | Path


class Child:
    """A forked process that tells, line by line, what it was acknowledged.

    Args:
        work: gets a function that tells a line.
    """

    def __init__(self, work: Callable[[Callable[[str], Any]], None]) -> None:
        self.source, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work(lambda line: os.write(writer, f"{line}\n".encode()))
            except FourierFTError as error:
                os.write(writer, f"refused {json.dumps(str(error))}\n".encode())
            except BaseException as error:
                os.write(writer, f"raised {type(error).__name__} {json.dumps(str(error))}\n".encode())
            finally:
                os._exit(0)
        os.close(writer)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def lines(self) -> list[str]:
        """All that it told, when it has ended."""
        with os.fdopen(self.source) as stream:
            told = stream.read().splitlines()
        os.waitpid(self.pid, 0)
        return told


def write(place: Location, seed: str) -> Callable[[Callable[[str], Any]], None]:
    """Adds, replaces and removes at random; every line is told once the store has acknowledged it."""

    def work(tell: Callable[[str], None]) -> None:
        chance, shared = random.Random(seed), layout()
        with AdapterStore(place) as store:
            for k in range(100_000):
                name = f"{seed} {k}"
                if chance.random() < 0.2:
                    store.add_many(shared, [(f"{name} {part}", numbers(k + part)) for part in range(5)])
                    for part in range(5):
                        tell(f"added {k + part} {name} {part}")
                    continue
                store.put(name, shared, numbers(k))
                tell(f"added {k} {name}")
                if chance.random() < 0.2:
                    store.set_alias(name, "live")
                    tell(f"alias 0 {name}")
                elif chance.random() < 0.2:
                    tell(f"removing 0 {name}")
                    store.remove(name)
                    tell(f"removed 0 {name}")

    return work


def check_acknowledged(place: Location, lines: list[str]) -> str | None:
    """What was acknowledged and is not so."""
    told = [line.split(" ", 2) for line in lines]
    gone = {name for verb, _, name in told if verb == "removing"}
    with AdapterStore(place) as store:
        for verb, k, name in told:
            if verb in ("refused", "raised"):
                return f"{verb} {k} {name}"
            if verb == "added" and name not in gone and not torch.equal(store.get(name).values, numbers(int(k))):
                return f"{name} is another"
            if verb == "alias" and store.resolve(f"{name}@live").version != 1:
                return f"{name}@live is lost"
            if verb == "removed" and name in store:
                return f"{name} is back"
        faults = store.verify()
    return faults[0] if faults else None


def noted(check: Callable[[], str | None]) -> str | None:
    """What a check says, or raises."""
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

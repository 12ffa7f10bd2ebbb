"""A small store whose every answer is known, and what may be said of it once something in it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fourierft.errors import FourierFTError, StoreError
from fourierft.store import AdapterStore, Layout

SHAPES = {"a.query": (16, 12), "a.value": (12, 16)}
CONFIG = {
    "peft_type": "FOURIERFT",
    "base_model_name_or_path": "org/base",
    "n_frequency": 20,
    "random_loc_seed": 5,
    "scaling": 8.0,
    "target_modules": ["query", "value"],
}


def layout(**fields: Any) -> Layout:
    """Of two layers, 20 coefficients each."""
    return Layout.make({**CONFIG, **fields}, SHAPES)


def numbers(k: int) -> torch.Tensor:
    """Coefficients by number: [40]."""
    return torch.randn(40, generator=torch.Generator().manual_seed(k))


def fill(store: AdapterStore) -> dict[str, Any]:
    """Eight adapters, some with heads, versions, aliases and another layout; what all reads of it have to give."""
    layouts, k = [layout(), layout(scaling=2.0), layout(random_loc_seed=6)], 0
    latest: dict[str, int] = {}
    for version, names in enumerate((range(8), range(1, 4), range(2, 4)), 1):
        for number in names:
            k += 1
            heads = {"head.weight": numbers(100 + k).view(4, 10)} if k % 3 == 0 else {}
            store.put(f"t{number}", layouts[k % 3], numbers(k), heads, metrics={"k": k}, record=f'{{"k": {k}}}')
            latest[f"t{number}"] = version
    store.set_alias("t1", "live", 1)
    store.set_alias("t2", "live", 2)
    store.remove("t3", 3)
    latest["t3"] = 2
    found = [(listed.name, listed.version) for listed in store.list(versions=True)]
    return {
        "latest": latest,
        "adapters": {key: describe(store.get(*key)) for key in found},
        "aliases": {("t1", "live"): 1, ("t2", "live"): 2},
        "listed": [listed._asdict() for listed in store.list(versions=True)],
        "base": store.base,
    }


def describe(adapter: Any) -> tuple[Any, ...]:
    """All that a user gets of an adapter."""
    heads = {name: tensor.tolist() for name, tensor in adapter.heads.items()}
    values = adapter.values.tolist(), heads, adapter.metrics, adapter.record, adapter.created, adapter.dtype
    return (adapter.name, adapter.version, *values, adapter.config, [tuple(layer) for layer in adapter.layout.layers])


def judge(open_it: Callable[[], AdapterStore], truth: dict[str, Any], may_lose: bool = False) -> str | None:
    """What is wrong with how a damaged store answers; None if it gives what is true, or says that it cannot.

    Whatever is refused or missing must be found by `verify` as well.

    Args:
        open_it: opens the store.
        truth: of `fill`.
        may_lose: whether the last of what was written may be missing without a word.
    """
    try:
        store = open_it()
    except StoreError as error:
        return None if "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:
        return f"opening raised {type(error).__name__}: {error}"
    with store:
        missing, wrong = _read(store, truth)
        if wrong and not (may_lose and all(text.startswith("older") for text in wrong)):
            if not all(text.startswith("older") for text in wrong):
                return wrong[0]
            missing.extend(wrong)
        try:
            faults = store.verify()
        except Exception as error:
            return f"verify raised {type(error).__name__}: {error}"
        if missing and not faults and not may_lose:
            return f"verify finds nothing, but {missing[0]}"
        return None


def _read(store: AdapterStore, truth: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What could not be read, and what was read wrongly."""
    missing: list[str] = []
    wrong: list[str] = []

    def attempt(what: str, read: Callable[[], Any], expected: Any, older: tuple[Any, ...] = ()) -> None:
        try:
            found = read()
        except FourierFTError as error:
            missing.append(f"{what}: {error}" if "\n" not in str(error) else "several lines")
            return
        except Exception as error:
            wrong.append(f"{what} raised {type(error).__name__}: {error}")
            return
        if found != expected:
            wrong.append(f"{'older' if found in older else 'wrong'}: {what}")

    for (name, version), expected in truth["adapters"].items():
        attempt(f"{name}@{version}", lambda n=name, v=version: describe(store.get(n, v)), expected)
    for name, version in truth["latest"].items():
        older = tuple(truth["adapters"].get((name, number)) for number in range(1, version))
        attempt(name, lambda n=name: describe(store.get(n)), truth["adapters"][name, version], older)
    for (name, alias), version in truth["aliases"].items():
        attempt(f"{name}@{alias}", lambda n=name, a=alias: store.resolve(f"{n}@{a}").version, version)
    try:
        if [listed._asdict() for listed in store.list(versions=True)] != truth["listed"]:
            missing.append("the list is another")
    except FourierFTError as error:
        missing.append(f"list: {error}")
    except Exception as error:
        wrong.append(f"list raised {type(error).__name__}: {error}")
    return missing, wrong

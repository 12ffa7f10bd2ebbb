"""The task families there are: those of this folder, those of installed packages, those that a program registers.

A file here defines FAMILIES and is named in BUILT_IN. A package outside has an entry point of the group
`fourierft.families`, whose value is a `Family`; a program calls `register`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from fourierft.errors import CheckpointError, ConfigError, DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.families.family import Family
from fourierft.training.labels import Where, by_index

if TYPE_CHECKING:
    from datasets import Dataset

BUILT_IN = (  # the last is asked first
    *("classes", "regression", "multi_label", "tokens", "answers", "chats", "pairs", "feedback", "images"),
)
GROUP = "fourierft.families"
AUTO = "auto"
_REGISTERED: list[Family] = []


def register(family: Family) -> None:
    """Add a family; of rows that several would claim it is asked before those that are there.

    Raises: ConfigError, if another has this name and this kind of rows.
    """
    known = next((one for one in families() if (one.name, one.kind) == (family.name, family.kind)), None)
    if known is None:
        _REGISTERED.append(family)
    elif type(known) is not type(family):
        raise ConfigError(
            f"the task {family.name} of {family.kind} rows exists, as a {type(known).__name__}; choose another name"
        )


def families() -> tuple[Family, ...]:
    """All of them, in the order in which they came."""
    return (*_load_built_in(), *_load_installed(), *_REGISTERED)


def names() -> list[str]:
    """The names that `--task` takes, but for auto."""
    return list(dict.fromkeys(family.name for family in families()))


def find_families(rows: Dataset | None, data: DataArguments) -> list[Family]:
    """The families whose rows these are, all of one kind; `learn` chooses among them by the labels.

    Args:
        rows: to train on; None, if nothing is known of them.

    Raises: ConfigError, if there is no such task, or it does not go with another setting.
    """
    if data.task not in (AUTO, *names()):
        raise ConfigError(f"task={data.task} is unknown; use {', '.join(names())} or {AUTO}")
    asked = [family for family in reversed(families()) if data.task in (AUTO, family.name)]
    found = [family for family in asked if family.claims(rows, data)]
    if not found:
        column = f"image_column={data.image_column}" if data.image_column else "the columns of these rows"
        raise ConfigError(f"task={data.task} does not take {column}; leave out one of them")
    return [family for family in found if family.kind == found[0].kind]


def learn(
    found: Sequence[Family],
    values: Sequence[Any],
    wanted: str,
    column: str,
    declared: Sequence[str] = (),
    where: Where = by_index,
) -> Family:
    """The family that the labels call for, with what it learns of them; arguments as of `Family.learn`.

    Args:
        found: families to choose from, that which is asked first in front.
        wanted: auto, or the name of their task.

    Raises: DataError, if the labels can't be those of a task.
    """
    is_named = wanted != AUTO
    learned = (family.learn(values, column, declared, where, is_named) for family in found)
    chosen = next((family for family in learned if family is not None), None)
    if chosen is None:
        raise DataError(f"the labels in column {column} fit no task; name one with --task")
    return chosen


def family_of(record: Mapping[str, Any]) -> Family:
    """The family of a finished training.

    Args:
        record: what the training wrote of itself.

    Raises: CheckpointError, if it is not here.
    """
    name, kind = record["task"], record.get("inputs", "text")
    found = next((family for family in families() if (family.name, family.kind) == (name, kind)), None)
    if found is None:
        raise CheckpointError(
            f"this training has the task {name} on {kind} rows, which is unknown here "
            f"(known: {', '.join(names())}); install the package that defines it, or "
            "register its family"
        )
    return replace(found, labels=tuple(record["labels"])).with_settings(record)


def is_headless(name: str | None) -> bool:
    """Whether a task, by its name, uses the model as it was pretrained; not if no task has that name."""
    return any(family.name == name and not family.needs_head for family in families())


def lower_is_better(metric: str) -> bool:
    """Whether a metric counts what went wrong."""
    return metric == "loss" or any(metric in family.lower_is_better for family in families())


@cache
def _load_built_in() -> tuple[Family, ...]:
    modules = (import_module(f"{__package__}.{name}") for name in BUILT_IN)
    return tuple(family for module in modules for family in module.FAMILIES)


@cache
def _load_installed() -> tuple[Family, ...]:
    return tuple(_load(entry) for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


def _load(entry: Any) -> Family:
    """The family of an entry point; ConfigError, naming its package, if there is none."""
    package = entry.dist.name if entry.dist else entry.value
    try:
        family = entry.load()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"the task {entry.name} of {package} can't be loaded ({reason}); correct or uninstall the package"
        ) from error
    if not isinstance(family, Family):
        raise ConfigError(
            f"the task {entry.name} of {package} is a {type(family).__name__}, not a "
            "Family; correct or uninstall the package"
        )
    return family

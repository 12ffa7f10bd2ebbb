"""The adapters that are in training: whose rows come when, in an order that each has for itself."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fourierft.errors import DataError
from fourierft.fleet import BASE
from fourierft.training.division import divide_order
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.labels import Where, by_index

_PASS_COST = 32  # tokens that take as long as the calls of a pass
_LARGEST_PASS = 2048  # tokens, beyond which a pass costs memory and saves nothing


@dataclass(frozen=True)
class Tenant:
    """An adapter's share of the data.

    Attributes:
        name: of the adapter.
        train: its rows to train on, by their number in the data.
        held_out: those to score it on.
    """

    name: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]

    def total_steps(self, settings: FleetSettings) -> int:
        steps = settings.epochs * math.ceil(len(self.train) / settings.rows)
        return steps if settings.max_steps is None else min(steps, settings.max_steps)

    def batch(self, step: int, settings: FleetSettings) -> list[int]:
        """Rows of a step, the same whichever adapters are trained beside this one; an epoch's last may be fewer."""
        epoch, place = divmod(step, math.ceil(len(self.train) / settings.rows))
        order = list(self.train)
        random.Random(f"{settings.seed}:{epoch}:{self.name}").shuffle(order)
        return order[place * settings.rows : (place + 1) * settings.rows]


def make_tenants(
    adapters: Sequence[str | None],
    settings: FleetSettings,
    first: int = 0,
    where: Where = by_index,
    classes: Sequence[int] | None = None,
) -> dict[str, Tenant]:
    """Divide rows by adapter, and each adapter's into training and held-out ones.

    Args:
        adapters: name of each row's adapter.
        settings: share held out, and the seed of the choice.
        first: number of the first row.
        where: names a row, for errors.
        classes: of rows; each keeps its share among those held out, and a row at least to train on.

    Returns: tenants by name, in the order in which they come in the data.

    Raises: DataError, if a row names none, or the base.
    """
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(adapters):
        if name is None or not name.strip():
            raise DataError(
                f"column {settings.adapter_column} is empty in {where(number)}; name the adapter that the row trains"
            )
        if name == BASE:
            raise DataError(
                f"{where(number)} names {BASE!r}, which means the base without an adapter; choose another name"
            )
        rows.setdefault(name, []).append(first + number)
    kinds = None if classes is None else dict(enumerate(classes, start=first))
    return {name: _divide(name, own, settings, kinds) for name, own in rows.items()}


def divide_batch(lengths: Sequence[int]) -> list[list[int]]:
    """Divide the rows of a batch into passes of rows that are about as long, so that little of them is padding.

    The longest come first. A pass ends where its padding would take longer than a further pass, or where it is full.

    Args:
        lengths: tokens of each row.

    Returns: the places of its rows, for each pass.
    """
    passes: list[list[int]] = []
    longest = padding = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        padding += longest - lengths[place]
        if not passes or padding > _PASS_COST or longest * (len(passes[-1]) + 1) > _LARGEST_PASS:
            passes.append([])
            longest, padding = lengths[place], 0
        passes[-1].append(place)
    return passes


def _divide(name: str, rows: list[int], settings: FleetSettings, classes: Mapping[int, int] | None) -> Tenant:
    order = list(rows)
    random.Random(f"{settings.seed}:held out:{name}").shuffle(order)
    count = min(len(rows) - 1, round(settings.validation_fraction * len(rows)))
    train, held_out = divide_order(order, count, classes)
    return Tenant(name, tuple(sorted(train)), tuple(sorted(held_out)))

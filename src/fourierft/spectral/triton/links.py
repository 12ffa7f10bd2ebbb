"""Index tables of a basis: which bins of a transform are kept, and what carries them to the bins of another.

Two real tokens go through a transform as one complex one. The update is real, so it is linear in that complex token,
and its spectrum is Hermitian: each entry (u, v) of coefficient c is c / 2 at (u, v) and c / 2 at (-u, -v).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fourierft.spectral.triton.plan import Plan


@dataclass(frozen=True)
class Holding:
    """The bins of a length that some entries read, closed under negation."""

    plan: Plan
    tables: Tensor  # of the plan
    slots: Tensor  # of the padded values, int32, where a bin is kept, -1 if it is not
    places: Tensor  # [length] int64, the same by bin
    count: int  # columns of what is held: the kept bins, and the scale of a token


@dataclass(frozen=True)
class Links:
    """What each bin of a target sums up, in rows of one link a bin: source slot and coefficient."""

    source: Tensor  # [depth, length] int32, -1 where a bin has no more links
    coefficient: Tensor  # [depth, length] int32
    depth: int


@dataclass(frozen=True)
class Pairs:
    """Where both sides hold the bins of each entry, [n] int32 each: at (u, v) and at (-u, -v)."""

    rows: Tensor
    mirrored_rows: Tensor
    columns: Tensor
    mirrored_columns: Tensor


def holding_of(plan: Plan, read: Tensor, device: torch.device) -> Holding:
    """Keeps the bins `read`, int64, and their mirror images."""
    kept = torch.cat([read, -read % plan.length]).unique()
    places = torch.full((plan.length + 1,), -1)  # the last stands for values that are no bin
    places[kept] = torch.arange(len(kept))
    slots = places[plan.bins()].int()
    return Holding(plan, plan.tables().to(device), slots.to(device), places[:-1], len(kept) + 1)


def links_of(source: Holding, length: int, read: Tensor, written: Tensor, device: torch.device) -> Links:
    """From the held bins `read` of each entry to the bins `written` of a transform of another length."""
    to = torch.cat([written, -written]) % length
    origin = source.places[torch.cat([read, -read]) % source.plan.length]
    order = torch.argsort(to, stable=True)
    to, origin, coefficient = to[order], origin[order], torch.arange(len(read)).repeat(2)[order]
    count = torch.bincount(to, minlength=length)
    rank = torch.arange(len(to)) - (count.cumsum(0) - count)[to]  # of a link among those of its target
    depth = int(count.max())
    table = torch.full((2, depth, length), -1, dtype=torch.int32)
    table[0, rank, to], table[1, rank, to] = origin.int(), coefficient.int()
    return Links(table[0].to(device), table[1].to(device), depth)


def pairs_of(rows: Holding, columns: Holding, entries: Tensor, device: torch.device) -> Pairs:
    """Of entries [2, n], with the bins of rows (output) and columns (input) held."""
    u, v = entries
    sides = (rows, u), (rows, -u), (columns, v), (columns, -v)
    return Pairs(*(side.places[bins % side.plan.length].int().to(device) for side, bins in sides))

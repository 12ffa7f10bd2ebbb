"""What the kernel needs to know of a length and of a basis: radices, twiddles, and the positions that links join.

A transform leaves its spectrum in digit-reversed order: bin v of a stage of r * m stands in part v % r, at the position
of bin v // r of that part.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fourierft.spectral.basis import SpectralBasis

LARGEST_UNROLLED = 13  # radix of transforms.h; larger ones are summed up as they stand
LARGEST_PRIME = 509  # that it has room for
_ODD_PRIMES = (p for p in range(3, LARGEST_PRIME + 1, 2) if all(p % q for q in range(3, p, 2)))
RADICES = (8, 4, 2, *_ODD_PRIMES)  # in the order of stages


class Struct(ctypes.Structure):
    """A struct of kernel.c; keeps the arrays that it points to."""

    arrays: tuple[np.ndarray, ...]


def _pointers(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names]


class Plan(Struct):
    """`plan` of kernel.c, and the position of each bin, int32 [length]."""

    _fields_ = [("length", ctypes.c_int64), *_pointers("radices", "twiddles")]
    positions: np.ndarray


class Holding(Struct):
    """`holding` of kernel.c; of each bin the place among those held, int32 [length], and how many bins there are."""

    _fields_ = [("count", ctypes.c_int64), *_pointers("position")]
    positions: np.ndarray
    length: int


class KernelLinks(Struct):
    """`links` of kernel.c: from the spectrum of a plan to that of another."""

    _fields_ = [("targets", ctypes.c_int64), *_pointers("target", "first", "source", "mirror", "index")]


class Entries(Struct):
    """`entries` of kernel.c."""

    _fields_ = [("n", ctypes.c_int64), *_pointers("in", "out", "index")]


@functools.lru_cache(maxsize=1024)
def radices_of(length: int) -> tuple[int, ...] | None:
    """The stages of a transform, or None if the length has a prime factor above `LARGEST_PRIME`."""
    radices = []
    for radix in RADICES:
        while length % radix == 0:
            radices.append(radix)
            length //= radix
    return tuple(radices) if length == 1 else None


@functools.lru_cache(maxsize=256)
def plan_of(length: int) -> Plan | None:
    """The plan of a length, or None if the kernel cannot transform it."""
    radices = radices_of(length)
    if radices is None:
        return None
    tables, size = [np.zeros(0, np.float32)], length
    for radix in radices:
        size //= radix
        tables += [_turns(np.arange(radix), radix)]
        tables += [_turns(np.arange(size)[:, None] * np.arange(1, radix), radix * size)]
    arrays = np.array([*radices, 0], np.int32), np.concatenate(tables)
    plan = Plan(length, *(array.ctypes.data for array in arrays))
    plan.arrays, plan.positions = arrays, _positions(np.arange(length), length, radices).astype(np.int32)
    return plan


def holding_of(plan: Plan, bins: np.ndarray) -> Holding:
    """Holds these bins and their mirror images."""
    kept = np.unique(plan.positions[_with_mirrored(bins, plan.length)])
    holding = Holding(len(kept))
    _point(holding, position=kept)
    holding.length, holding.positions = plan.length, np.searchsorted(kept, plan.positions).astype(np.int32)
    return holding


def links_of(source: Plan | Holding, target: Plan | Holding, reads: np.ndarray, adds: np.ndarray) -> KernelLinks:
    """The 2n links from bins `reads` and their mirror images to bins `adds` and theirs, sorted by target."""
    from_bins, to_bins = _with_mirrored(reads, source.length), _with_mirrored(adds, target.length)
    order = np.lexsort((source.positions[from_bins], target.positions[to_bins]))
    targets, first = np.unique(target.positions[to_bins][order], return_index=True)
    from_bins = from_bins[order]
    links = KernelLinks(len(targets))
    _point(
        links,
        target=targets,
        first=np.append(first, len(order)),
        source=source.positions[from_bins],
        mirror=source.positions[-from_bins % source.length],
        index=order % len(reads),
    )
    return links


def entries_of(basis: SpectralBasis, inner: Plan | Holding, outer: Plan) -> Entries:
    """The basis' entries, sorted by the position of u."""
    rows, columns = basis.entries.numpy()
    order = np.argsort(outer.positions[rows], kind="stable")
    entries = Entries(len(order))
    sides = {
        name: np.stack([plan.positions[bins[order]], plan.positions[-bins[order] % plan.length]], 1)
        for name, plan, bins in (("in", inner, columns), ("out", outer, rows))
    }
    _point(entries, **sides, index=order)
    return entries


def _point(struct: Struct, **arrays: np.ndarray) -> None:
    kept = {name: np.ascontiguousarray(array, np.int32) for name, array in arrays.items()}
    for name, array in kept.items():
        setattr(struct, name, array.ctypes.data)
    struct.arrays = tuple(kept.values())


def _with_mirrored(bins: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([bins, -bins % length])


def _turns(steps: np.ndarray, length: int) -> np.ndarray:
    """exp(2 pi i steps / length) as float32 pairs; steps are reduced as integers first."""
    angles = (steps % length).astype(np.float64) * (2 * np.pi / length)
    return np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32).ravel()


def _positions(bins: np.ndarray, length: int, radices: Sequence[int]) -> np.ndarray:
    if not radices:
        return np.zeros_like(bins)
    part = length // radices[0]
    return bins % radices[0] * part + _positions(bins // radices[0], part, radices[1:])

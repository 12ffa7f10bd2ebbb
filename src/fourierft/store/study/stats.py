"""What a person wants to know of a fleet: how many, how large, which are the same, which are alike."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fourierft.adapters.card import read_scores
from fourierft.format.layout import Layer, Layout
from fourierft.store.alignment import align_rows
from fourierft.store.databases import schema
from fourierft.store.reading import StoreReader
from fourierft.store.rows import Block, Listed
from fourierft.store.study.norms import unfold, update_norm
from fourierft.store.tables import StoreTables


class Norms(NamedTuple):
    """Spread of a layer's norm over the adapters that change it."""

    least: float
    median: float
    largest: float


class Scores(NamedTuple):
    """Spread of a metric over the adapters that have it, a score each."""

    adapters: int
    least: float
    median: float
    largest: float


@dataclass(frozen=True)
class StoreStats:
    """A fleet in numbers.

    Attributes:
        base: name of the base model.
        adapters: number of names.
        versions: number of rows.
        dtypes: dtype -> number of rows.
        raw_bytes: of coefficients and heads, as kept.
        disk_bytes: of the store.
        norms: layer -> norm of the latest versions, of `kind`.
        kind: "||dW||", or "||scaling * c||" where the shapes are not known.
        scores: metric, with its split if that is not the validation data -> what the latest versions reached in it.
        duplicates: groups of names with the same numbers, heads and config.
    """

    base: str | None
    adapters: int
    versions: int
    dtypes: dict[str, int]
    raw_bytes: int
    disk_bytes: int
    norms: dict[str, Norms]
    kind: str
    scores: dict[str, Scores]
    duplicates: tuple[tuple[str, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        spreads: dict[str, Mapping[str, Any]] = {"norms": self.norms, "scores": self.scores}
        told = {key: {name: own._asdict() for name, own in spread.items()} for key, spread in spreads.items()}
        return {**vars(self), **told}


class Neighbour(NamedTuple):
    """An adapter that is like another one.

    Fields:
        name: of it.
        similarity: cosine of the angle between its dW and the other's, over all layers together.
    """

    name: str
    similarity: float


def measure_store(tables: StoreTables, blocks: Iterable[Block], listed: Iterable[Listed]) -> StoreStats:
    """Sum a store up.

    Args:
        tables: of the store.
        blocks: the latest versions of all its adapters, read once.
        listed: the same, without their numbers.

    Raises: StoreError, if a row is damaged.
    """
    kept = list(tables.rows(schema.DTYPES))
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, *key in tables.rows(schema.DIGESTS):
        groups[tuple(bytes(part) if isinstance(part, memoryview) else part for part in key)].append(name)
    found: dict[str, list[torch.Tensor]] = defaultdict(list)
    kinds = set()
    for block in blocks:
        kinds.add("||dW||" if block.layout.bases else "||scaling * c||")
        for name, norms in block_norms(block).items():
            found[name].append(norms)
    scores: dict[str, list[float]] = defaultdict(list)
    for line in listed:
        for score in read_scores(line.metrics):
            scores[score.label].append(score.value)
    joined = {name: torch.cat(found[name]) for name in sorted(found)}
    return StoreStats(
        base=tables.base.name if tables.base else None,
        adapters=tables.count(),
        versions=sum(count for _, count, _ in kept),
        dtypes={dtype: count for dtype, count, _ in kept},
        raw_bytes=sum(int(size) for *_, size in kept),
        disk_bytes=tables.backend.size() if kept else 0,
        norms={name: Norms(float(n.min()), float(n.median()), float(n.max())) for name, n in joined.items()},
        kind=" or ".join(sorted(kinds)),
        scores={name: Scores(len(own), min(own), statistics.median(own), max(own)) for name, own in scores.items()},
        duplicates=tuple(tuple(names) for names in groups.values() if len(names) > 1),
    )


def block_norms(block: Block) -> dict[str, torch.Tensor]:
    """Layer -> Frobenius norm of dW, [adapters]; of scaling * c where the shapes are not known."""
    bases, scaling = block.layout.bases, block.layout.scaling
    return {
        name: update_norm(part, bases[name], scaling) if bases else part.double().norm(dim=-1) * abs(scaling)
        for name, part in block.layout.split(block.values).items()
    }


def find_nearest(store: StoreReader, name: str, count: int = 10) -> list[Neighbour]:
    """The adapters whose dW points most nearly the same way.

    Args:
        store: where they are.
        name: of the adapter to compare with.
        count: how many to return.

    Returns: the nearest first, without the adapter itself.

    Raises: StoreError, if it is not there, or entries are drawn differently.
    """
    layers = store.layers()
    target = unit_rows(next(store.blocks([name])), layers)[0]
    best: list[Neighbour] = []
    for block in store.blocks():
        similarities = (unit_rows(block, layers) @ target).tolist()
        near = [Neighbour(*pair) for pair in zip(block.names, similarities, strict=True) if pair[0] != name]
        best = sorted([*best, *near], key=lambda neighbour: -neighbour.similarity)[:count]
    return best


def unit_rows(block: Block, layers: tuple[Layer, ...]) -> torch.Tensor:
    """Rows of length 1 whose inner products are the cosines of the angles between the dW: float32 [adapters, features].

    Args:
        block: some adapters.
        layers: of the space that all of them are compared in; where a shape is not known, coefficients stand for dW.
    """
    rows = align_rows(block.values, block.layout, layers)
    common = Layout(block.layout.config, layers)
    if common.bases is not None:
        parts = common.split(rows)
        rows = torch.cat([unfold(parts[name], basis) for name, basis in common.bases.items()], dim=1).float()
    return torch.nn.functional.normalize(rows, dim=1)

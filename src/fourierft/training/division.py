"""Which rows are held out to evaluate on, and which are sampled: drawn by a seed, by class where there are classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments


def divide_rows(
    count: int, fraction: float, seed: int, classes: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """The rows to train on, and those held out, by their indices in the order of the draw.

    Args:
        count: of all rows.
        fraction: of them to hold out, rounded; at least one, and never all.
        classes: of each row; each keeps its share on both sides, as near as rows can be divided, and at least one row
            to train on.

    Raises: DataError, if the fraction is none, or no row can be spared.
    """
    if not 0 < fraction < 1:
        raise DataError(f"validation_fraction={fraction} is not between 0 and 1; use 0.1 for a tenth")
    if count < 2:
        raise DataError(
            "one row cannot be split into training and validation data; give more rows, or --validation_file"
        )
    order = np.random.default_rng(seed).permutation(count).tolist()
    train, held_out = divide_order(order, _held_out(count, fraction), classes)
    if not held_out:
        raise DataError(
            "no class has two rows, so none can be held out for evaluation; give more "
            "rows, --validation_file, or --validation_fraction 0"
        )
    return train, held_out


def divide_order(
    order: Sequence[int], wanted: int, classes: Sequence[int] | Mapping[int, int] | None
) -> tuple[list[int], list[int]]:
    """The rows to train on, and the first of their order that are wanted, or of each class its share of them.

    Args:
        order: of rows, as they are drawn.
        wanted: rows to hold out; fewer, if classes would be left without a row to train on.
        classes: of each row.
    """
    kinds = {row: classes[row] if classes else 0 for row in order}
    left = _shares(list(kinds.values()), wanted) if classes else Counter({0: wanted})
    train: list[int] = []
    held_out: list[int] = []
    for row, kind in kinds.items():
        (held_out if left[kind] > 0 else train).append(row)
        left[kind] -= 1
    return train, held_out


def sample_rows(count: int, limit: int | None, seed: int) -> list[int] | None:
    """As many of the rows as the limit allows, by their indices; None, if these are all of them."""
    if limit is None or limit >= count:
        return None
    if limit < 1:
        raise DataError(f"a limit of {limit} samples leaves no rows; use at least 1")
    found: list[int] = np.random.default_rng(seed).permutation(count)[:limit].tolist()
    return found


def divide_count(counts: dict[str, int], data: DataArguments) -> dict[str, int]:
    """The number of rows by split that a stored data set of so many gives; where classes are small, about so many."""
    counts = dict(counts)
    if "validation" not in counts and data.validation_fraction > 0:
        counts["validation"] = _held_out(counts["train"], data.validation_fraction)
        counts["train"] -= counts["validation"]
    return {name: min(count, limit_of(name, data) or count) for name, count in counts.items()}


def limit_of(name: str, data: DataArguments) -> int | None:
    """How many rows of a split are used at most."""
    return data.max_train_samples if name == "train" else data.max_eval_samples


def _held_out(count: int, fraction: float) -> int:
    return max(1, min(count - 1, round(fraction * count)))


def _shares(classes: Sequence[int], wanted: int) -> Counter[int]:
    """Rows of each class to hold out: by largest remainder, and never all of a class."""
    counts = Counter(classes)
    exact = {kind: wanted * own / len(classes) for kind, own in counts.items()}
    shares = Counter({kind: min(int(exact[kind]), own - 1) for kind, own in counts.items()})
    order = sorted(counts, key=lambda kind: (int(exact[kind]) - exact[kind], kind))
    while shares.total() < wanted and (open_ := [kind for kind in order if shares[kind] < counts[kind] - 1]):
        for kind in open_[: wanted - shares.total()]:
            shares[kind] += 1
    return shares

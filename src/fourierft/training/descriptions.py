"""What is known of data that are not on this machine: what their description says, or else the settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourierft.extras import needs
from fourierft.training.arguments import DataArguments
from fourierft.training.columns import Columns
from fourierft.training.division import divide_count
from fourierft.training.families.registry import AUTO, find_families
from fourierft.training.reading import Reading

if TYPE_CHECKING:
    from datasets import DatasetInfo

SPLITS = ("train", "validation", "test")


def guess_data(data: DataArguments) -> Reading:
    """What the settings alone say; what they don't say of labels is an assumption of the family."""
    family = find_families(None, data)[-1]  # of those that are asked, what is left if the labels are no other's
    named = family.wanted_columns(data) or ()
    return Reading(family.guess(), Columns(tuple(named), data.label_column or "?"), {}, {})


def describe_data(info: DatasetInfo, data: DataArguments) -> tuple[Reading, dict[str, int]]:
    """What the description of a data set says of it, and the number of rows by split that it will give.

    Returns: no rows, if their number is not described.

    Raises: DataError, naming the columns there are, if one is missing.
    """
    counts = {name: split.num_examples for name, split in (info.splits or {}).items()}
    wanted = {name: counts.get(getattr(data, f"{name}_split_name")) for name in SPLITS}
    rows = {name: count for name, count in wanted.items() if count}
    rows = divide_count(rows, data) if "train" in rows else {}
    if not info.features:
        return guess_data(data), rows
    with needs("train", "reading data"):
        import datasets

    empty = datasets.Dataset.from_dict({name: [] for name in info.features}, features=info.features)
    found = find_families(empty, data)
    first = found[0]
    columns = first.expect_columns(empty, first.wanted_columns(data), data.label_column)
    feature = empty.features.get(columns.label)
    expected = (family.expect(feature, data.task != AUTO) for family in found)
    family = next(family for family in expected if family is not None)
    return Reading(family, columns, {}, {}), rows

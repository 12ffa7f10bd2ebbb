"""The rows of files, or of data sets of the hub, as their splits, whole and in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourierft.errors import DataError
from fourierft.format.hub import offline_if_unreachable
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import mark_places
from fourierft.training.files import TEXT_FORMATS, find_format, import_datasets, load, read_file
from fourierft.training.pictures import check_choice, skip_unreadable

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")


def load_splits(data: DataArguments) -> dict[str, Dataset]:
    """All rows to train on, and those to evaluate and to test on if there are any; each knows its place.

    Args:
        data: names a hub data set, or files, or a data set with some splits replaced by files.

    Returns: `train`, and `validation` and `test` where they exist.

    Raises: DataError, if data is missing, empty, unreadable or of an unknown format.
    """
    check_choice(data.unreadable_images)
    files = {"train": data.train_file, "validation": data.validation_file, "test": data.test_file}
    splits = {name: read_file(file) for name, file in files.items() if file}
    if data.dataset_name:
        stored = _open_stored(data.dataset_name, data.dataset_config_name)
        for name in SPLITS:
            wanted = getattr(data, f"{name}_split_name")
            if name not in splits and wanted in stored:
                splits[name] = stored[wanted]()
        if "train" not in splits:
            raise DataError(
                f"{data.dataset_name} has no split {data.train_split_name}, only {', '.join(stored)}; "
                "name one with --train_split_name"
            )
    if "train" not in splits:
        raise DataError("no training data given; give --train_file FILE or --dataset_name DATASET")
    return {name: _readable(rows, data) for name, rows in splits.items()}


def has_validation(data: DataArguments) -> bool:
    """Whether there are rows to evaluate on while training, or some will be held out.

    Raises: DataError, if a data set can't be read.
    """
    if data.validation_file or data.validation_fraction > 0 or not data.dataset_name:
        return bool(data.validation_file or data.validation_fraction > 0)
    return data.validation_split_name in _open_stored(data.dataset_name, data.dataset_config_name)


def load_test(data: DataArguments) -> Dataset:
    """All rows of `test_file`, or of a data set's test split, to evaluate on; each knows its place.

    Raises: DataError, as `load_splits`.
    """
    check_choice(data.unreadable_images)
    if data.test_file:
        return _readable(read_file(data.test_file), data)
    if not data.dataset_name:
        raise DataError("no test data given; give --test_file FILE or --dataset_name DATASET")
    stored = _open_stored(data.dataset_name, data.dataset_config_name)
    if data.test_split_name not in stored:
        raise DataError(
            f"{data.dataset_name} has no split {data.test_split_name}, only {', '.join(stored)}; "
            "name one with --test_split_name"
        )
    return _readable(stored[data.test_split_name](), data)


def _readable(rows: Dataset, data: DataArguments) -> Dataset:
    return skip_unreadable(rows) if data.unreadable_images == "skip" else rows


def _open_stored(name: str, configuration: str | None) -> Mapping[str, Callable[[], Dataset]]:
    """What reads each split of a data set of the hub, or of a folder.

    Its csv and json files are read as they are written, unless it says itself how they are to be read.
    """
    with offline_if_unreachable(name):
        return _find_splits(name, configuration)


def _find_splits(name: str, configuration: str | None) -> Mapping[str, Callable[[], Dataset]]:
    datasets, title = import_datasets(), f"data set {name}"
    if (Path(name) / "dataset_dict.json").is_file():
        return _mark_all(load(title, lambda _: datasets.load_from_disk(name)), name)
    if (Path(name) / "state.json").is_file() and (Path(name) / "dataset_info.json").is_file():  # one that has no splits
        return _mark_all({"train": load(title, lambda _: datasets.load_from_disk(name))}, name)
    builder = load(title, lambda _: datasets.load_dataset_builder(name, configuration))
    files = {str(split): list(paths) for split, paths in (builder.config.data_files or {}).items()}
    if (
        files
        and _is_plain(builder)
        and all(find_format(path) in TEXT_FORMATS for paths in files.values() for path in paths)
    ):
        return {split: partial(_read_files, paths, name) for split, paths in files.items()}
    options = {"keep_default_na": False, "na_values": [""]} if builder.name == "csv" else {}
    return _mark_all(load(title, lambda read: read(name, configuration, **options)), name)


def _is_plain(builder: Any) -> bool:
    """Whether a data set is csv or json files, of which it says nothing."""
    config, own = builder.config, ("name", "version", "data_dir", "data_files", "description", "sep")
    usual = type(config)()
    others = [field.name for field in fields(config) if field.name not in own]
    is_usual = all(getattr(config, name) == getattr(usual, name) for name in others)
    return builder.name in ("csv", "json") and builder.info.features is None and is_usual


def _read_files(paths: list[str], name: str) -> Dataset:
    datasets, title = import_datasets(), f"data set {name}"
    with offline_if_unreachable(name):
        found: list[str] = load(title, lambda _: datasets.DownloadManager().download(paths))
    parts = [read_file(file, f"{name}/{path.rpartition('/')[2]}") for file, path in zip(found, paths, strict=True)]
    return load(title, lambda _: datasets.concatenate_datasets(parts))


def _mark_all(stored: Mapping[str, Dataset], name: str) -> dict[str, Callable[[], Dataset]]:
    return {split: partial(_mark, rows, f"the {split} split of {name}") for split, rows in stored.items()}


def _mark(rows: Dataset, source: str) -> Dataset:
    if len(rows) == 0:
        raise DataError(f"{source} has no rows; give at least one")
    return mark_places(rows, source)

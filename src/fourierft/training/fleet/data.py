"""The rows of a fleet: those of all adapters that train, and of those that come while they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import ConcatDataset

from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.store import AdapterStore
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import as_text, column_names, place_at, read_column
from fourierft.training.columns import require_columns
from fourierft.training.data import load_splits
from fourierft.training.digests import digest_all
from fourierft.training.files import read_file
from fourierft.training.fleet.names import check_names
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.fleet.tenants import Tenant, make_tenants
from fourierft.training.setup import Setup

if TYPE_CHECKING:
    from datasets import Dataset


class FleetData:
    """Rows as the model reads them, by their number, and which adapter's they are.

    Args:
        setup: what they are read with.
        settings: of the training.
        store: that the adapters will go into, whose names they must not collide with.

    Attributes:
        tenants: by name, in the order in which they came.
        lengths: tokens of each row; 1 where all are alike.
    """

    def __init__(self, setup: Setup, settings: FleetSettings, store: AdapterStore | None = None) -> None:
        self._setup, self._settings, self._store = setup, settings, store
        self._collator = setup.family.collator(setup.processor)
        self._parts: list[Any] = []
        self._rows: Any = ()
        self._digests: list[bytes] = []
        self.tenants: dict[str, Tenant] = {}
        self.lengths: list[int] = []

    def add(self, rows: Dataset, labels: list[Any]) -> list[Tenant]:
        """Take in rows of adapters that are new.

        Args:
            rows: with the column that names adapters.
            labels: one a row, encoded.

        Raises: DataError or StoreError, if a row names no adapter, or what cannot be a name.
        """
        names = [as_text(name) for name in read_column(rows, self._settings.adapter_column)]
        family = self._setup.family
        strata = family.strata(labels)
        found = make_tenants(names, self._settings, len(self._rows), partial(place_at, rows), strata)
        check_names(found, self.tenants, self._store)
        encoded = self._setup.encode(rows, labels)
        self.lengths += family.row_lengths(encoded)
        self._digests += family.row_digests(encoded)
        self._parts.append(encoded)
        self._rows = ConcatDataset(self._parts)
        self.tenants |= found
        return list(found.values())

    def add_file(self, file: Path) -> list[Tenant]:
        """Take in a file of one adapter, named like it.

        Raises: FourierFTError, if it cannot be read, or what it holds is not alike to what is there.
        """
        rows = read_adapter(file, self._settings.adapter_column)
        return self.add(rows, self._setup.read_labels(rows))

    def digests(self) -> dict[str, str]:
        """Name -> number and digest of its rows, as the model reads them."""
        return {
            name: digest_all(self._digests[row] for row in (*tenant.train, *tenant.held_out))
            for name, tenant in self.tenants.items()
        }

    def collate(self, numbers: Sequence[int]) -> Mapping[str, Tensor]:
        """A batch of rows by their numbers, `labels` among its tensors."""
        batch: Mapping[str, Tensor] = self._collator([self._rows[number] for number in numbers])
        return batch


def load_rows(data: DataArguments, settings: FleetSettings) -> Dataset:
    """The rows of the data set, or of all files of a folder, each an adapter's.

    Raises: DataError, if they cannot be read, or do not name their adapters.
    """
    if not is_folder(data):
        rows = load_splits(data)["train"]
        require_columns(rows, [settings.adapter_column])
        return rows
    with needs("train", "reading data"):
        import datasets

    folder = Path(data.train_file or "")
    files = sorted(adapter_files(folder))
    if not files:
        raise DataError(f"the folder {folder} has no files; put one there for each adapter, named like it")
    try:
        return datasets.concatenate_datasets([read_adapter(file, settings.adapter_column) for file in files])
    except ValueError as error:
        raise DataError(f"the files in {folder} differ in their columns ({' '.join(str(error).split())})") from error


def is_folder(data: DataArguments) -> bool:
    """Whether the data are a folder of files, one for each adapter."""
    return bool(data.train_file) and Path(data.train_file or "").is_dir()


def adapter_files(folder: Path) -> Iterator[Path]:
    """The files of a folder, but for those whose names begin with a dot."""
    return (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def read_adapter(file: Path, column: str) -> Dataset:
    """The rows of a file, with the column that names the adapter.

    Raises: DataError, if it cannot be read, or has that column.
    """
    rows = read_file(file)
    if column in column_names(rows):
        raise DataError(
            f"{file} has a column {column}, but in a folder the file names are the adapters' names; remove the column"
        )
    return rows.add_column(column, [file.stem] * len(rows))

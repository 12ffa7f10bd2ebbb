"""The adapter store: fine-tunes of one base model, kept by name and version."""

from fourierft.format.layout import Layer, Layout
from fourierft.store.adapter import Adapter, Loss, measure_loss
from fourierft.store.bulk import export_all, import_folder
from fourierft.store.references import Resolved
from fourierft.store.rows import Listed
from fourierft.store.store import AdapterStore
from fourierft.store.study.blend import blend
from fourierft.store.study.stats import Neighbour, StoreStats, find_nearest

__all__ = [
    "Adapter",
    "AdapterStore",
    "Layer",
    "Layout",
    "Listed",
    "Loss",
    "Neighbour",
    "Resolved",
    "StoreStats",
    "blend",
    "export_all",
    "find_nearest",
    "import_folder",
    "measure_loss",
]

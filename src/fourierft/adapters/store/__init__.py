"""The adapter store: fine-tunes of one base model, kept by name and version."""

from fourierft.adapters.store.adapter import Adapter, Loss, measure_loss
from fourierft.adapters.store.blending import blend
from fourierft.adapters.store.bulk import export_all, import_folder
from fourierft.adapters.store.references import Resolved
from fourierft.adapters.store.rows import Listed
from fourierft.adapters.store.stats import Neighbour, StoreStats, find_nearest
from fourierft.adapters.store.store import AdapterStore
from fourierft.format.layout import Layer, Layout

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

"""Layouts in a store: their rows, and the shapes that their layers have in a base."""

from __future__ import annotations

from typing import Any

from fourierft.adapters.base import BaseSource, check_saved_modules, find_shape
from fourierft.errors import CheckpointError
from fourierft.format.checkpoint import AdapterCheckpoint
from fourierft.format.layout import Layout
from fourierft.store.seals import seal_layout


def layout_columns(layout: Layout) -> dict[str, Any]:
    """The row of a layout, without the id."""
    config, layers, shapes = layout.texts
    texts = {"config": config, "layers": layers, "shapes": shapes}
    facts = {"digest": layout.digest, "basis": layout.draw_key, "n": layout.total, "scaling": layout.scaling}
    return {**texts, **facts, "seal": seal_layout(layout)}


def base_shapes(checkpoint: AdapterCheckpoint, base: str | None = None) -> dict[str, tuple[int, int]] | None:
    """Layer name -> (out_features, in_features), asked of the base's config; None if the base cannot be reached.

    Raises: CheckpointError, if the base is here and does not have the adapter's layers, or heads of its shapes.
    """
    try:
        source = BaseSource(checkpoint, base, allow_other_base=True)
    except CheckpointError:
        return None
    model = source.build_meta()
    check_saved_modules(model, checkpoint, source.name)
    return {name: find_shape(model, name, source.name) for name in checkpoint.coefficients}

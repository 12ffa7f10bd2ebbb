"""Adapted embeddings: of the update, only the rows that a batch looks up are ever computed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from fourierft.rows.terms import Term, add_updates
from fourierft.spectral import spectral_embedding
from fourierft.tuner.coefficients import check_present
from fourierft.tuner.mixing import RowPlan
from fourierft.tuner.reshaped import ReshapedLayer


class EmbeddingLayer(ReshapedLayer):
    """An embedding y = W[ids] with the updates of its adapters, y += dW[ids]; see `ReshapedLayer`.

    One that multiplies what it looks up by its `embed_scale` does so with the update too.
    """

    def forward(self, x: Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> Tensor:
        """The base layer's rows plus those of the active adapters' updates, or of `adapter_names`, one a row of x.

        Args:
            x: [...], integers, or [1, ...] for ids that all rows share, as positions are.
            adapter_names: of each row of x [batch, ...], "__base__" for none; if absent, those of the model's call.

        Returns: [..., width], dtype of the base layer's output.

        Raises: ConfigError, if adapter_names do not fit x, or adapters are merged.
        """
        self.usage.called = True
        scale = lookup_scale(self.base_layer)
        if scale is None:
            return super().forward(x, *args, adapter_names=adapter_names, **kwargs)
        if adapter_names is None:
            adapter_names = self.row_names.each(self.path, x.shape)
        if adapter_names is not None:
            if len(x) == 1:
                x = x.expand(len(adapter_names), *x.shape[1:])
            self._check_rows(x, adapter_names)
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        if adapter_names is not None:
            return self._mixed_rows(x, result, adapter_names, scale)
        delta = None
        for _, coefficients, basis, scaling in self.terms.summed(self.added_adapters):
            check_present(self.path, coefficients, x)
            rows = spectral_embedding(x, coefficients, basis, scaling)
            delta = rows if delta is None else delta + rows
        return result if delta is None else (result + self._masked(x, delta) * scale).to(result.dtype)

    def _mixed_rows(self, x: Tensor, result: Tensor, names: Sequence[str], scale: Tensor | float) -> Tensor:
        """Row i of x with the update of names[i]."""

        def update(term: Term, ids: Tensor) -> Tensor:
            rows = spectral_embedding(ids, term.spread(ids.dim() + 1), term.basis, term.scaling)
            return self._masked(ids, rows) * scale

        terms = RowPlan(self.terms, names).terms(self.terms)
        return add_updates(result, x, [(term.rows, partial(update, term)) for term in terms])

    def _masked(self, x: Tensor, delta: Tensor) -> Tensor:
        """The update's rows, zero at the base layer's padding."""
        base: Any = self.base_layer
        return delta if base.padding_idx is None else delta * (x != base.padding_idx)[..., None]


def lookup_scale(base: Any) -> Tensor | float | None:
    """What an embedding multiplies the rows by that it looks up; None if it does something else with ids."""
    if type(base).forward is nn.Embedding.forward:
        return 1.0
    scale = getattr(base, "embed_scale", None)
    if len(inspect.signature(type(base).forward).parameters) != 2 or not isinstance(scale, (int, float, Tensor)):
        return None
    return scale.to(base.weight.dtype) if isinstance(scale, Tensor) else float(scale)

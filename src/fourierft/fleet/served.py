"""A batch at inference: the updates of its rows, prepared once for all the calls in which the same rows come again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError, ShapeError
from fourierft.fleet.snapshot import Part, Snapshot
from fourierft.format.checkpoint import check_shape
from fourierft.format.shapes import Shape
from fourierft.rows.terms import Term, add_updates
from fourierft.spectral import PreparedUpdate, SpectralBasis, spectral_embedding
from fourierft.tuner.embedding import lookup_scale
from fourierft.tuner.record import layer_shape

LARGEST_HEAD = 1 << 20  # elements of a weight up to which each row has its own


class _Place(NamedTuple):
    """What an update is prepared for: a base that was moved or cast gets another one."""

    name: str
    device: torch.device
    dtype: torch.dtype
    layer: nn.Module


class _Head(NamedTuple):
    """A head of some rows: rows [heads], weight [heads, in, out], bias [heads, 1, out] or None."""

    rows: Tensor
    weight: Tensor
    bias: Tensor | None


class ServedRows:
    """Rows of a batch, each with the update and the heads of its adapter.

    A layer may see several rows in place of one, as the beams of a search: what follows one another belongs together.

    Args:
        snapshot: what the bank had for them.

    Raises: ConfigError, if an adapter replaces what cannot differ from row to row.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.stamps = snapshot.stamps
        self.count = len(snapshot.names)
        self.sizes = snapshot.sizes
        self._snapshot = snapshot
        self._updates: dict[_Place, list[_Update]] = {}
        self._heads: dict[_Place, _Head] = {}
        self._changed = {name for part in snapshot.parts for name in part.coefficients}
        self._replaced = {key.rpartition(".")[0] for key in snapshot.heads}
        self.layers = self._changed | self._replaced

    def check(self, model: nn.Module) -> None:
        """Raise ShapeError if a layer of the base is not what the adapters were made for."""
        for part in self._snapshot.parts:
            for name in part.coefficients:
                _checked_shape(part, name, model.get_submodule(name))

    def output(self, name: str, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """y [rows, ..., out] with the update of each row, or what its head gives.

        Args:
            name: of the layer.
            layer: of the base.
            x: its input, [rows, ..., in], or ids [rows, ...] of an embedding.
            y: its output.

        Raises: ConfigError, if the rows are not those of the batch, or a head cannot differ from row to row.
            ShapeError, if the layer is none that the adapters were made for.
        """
        if isinstance(layer, nn.Embedding):
            if len(x) == 1 < self.count:  # ids that all rows share, as positions are
                x, y = (shared.expand(self.count, *shared.shape[1:]) for shared in (x, y))
            x = x[..., None]
        place = _Place(name, x.device, x.dtype, layer)
        if name in self._replaced:
            if place not in self._heads:
                self._heads[place] = self._head(name, layer, x)
            y = _replace(y, x, self._heads[place], self.count)
        if name in self._changed:
            if place not in self._updates:
                parts = [part for part in self._snapshot.parts if name in part.coefficients]
                self._updates[place] = [_prepare(part, name, layer, x) for part in parts]
            y = _add(y, x, self._updates[place], self.count)
        return y

    def _head(self, name: str, layer: nn.Module, x: Tensor) -> _Head:
        own = {key.rpartition(".")[2]: head for key, head in self._snapshot.heads.items()
               if key.rpartition(".")[0] == name}  # fmt: skip
        if not isinstance(layer, nn.Linear) or layer.weight.numel() > LARGEST_HEAD or "weight" not in own:
            raise ConfigError(
                f"adapters replace {', '.join(sorted(own))} of {name}, a {type(layer).__name__}, but only weights of "
                f"linear layers of at most {LARGEST_HEAD:,} numbers can differ from row to row; run them one by one"
            )
        weight = own["weight"].values
        if weight.shape[1:] != layer.weight.shape or (layer.bias is None) != ("bias" not in own):
            raise ShapeError(
                f"the adapters' head {name} is {list(weight.shape[1:])}, but {list(layer.weight.shape)} in the base; "
                "load the base with the num_labels that they were trained with"
            )
        bias = own["bias"].values.to(x)[:, None] if "bias" in own else None
        return _Head(torch.tensor(own["weight"].rows, device=x.device), weight.to(x).transpose(1, 2).contiguous(), bias)


class _Lookup:
    """Rows of an embedding's updates: ids [rows, tokens, 1] -> [rows, tokens, width], one set of coefficients a row."""

    def __init__(self, coefficients: Tensor, basis: SpectralBasis, base: nn.Embedding) -> None:
        self._sets, self._basis, self._base = coefficients[:, None], basis, base
        self.dtype = coefficients.dtype

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        scale = lookup_scale(self._base)
        assert scale is not None  # or it would not have been prepared
        delta = spectral_embedding(x[..., 0], self._sets, self._basis, 1.0) * scale
        if self._base.padding_idx is not None:
            delta = delta * (x != self._base.padding_idx)
        return delta if onto is None else onto.add_(delta)


_Update = tuple[Tensor | None, PreparedUpdate | _Lookup]  # the rows that have it, None for all, and what gives it


def _checked_shape(part: Part, name: str, layer: nn.Module) -> Shape:
    """(out_features, in_features) of a layer; ShapeError, if it is not what the adapters of a part were made for."""
    is_lookup = isinstance(layer, nn.Embedding) and lookup_scale(layer) is not None
    if not is_lookup and not isinstance(layer, (nn.Linear, Conv1D)):
        raise ShapeError(
            f"{name} of the base is a {type(layer).__name__}; a fleet adapts only Linear, Conv1D and plain embeddings"
        )
    shape = layer_shape(layer)
    assert shape is not None
    check_shape(name, shape, part.shapes.get(name), part.coefficients[name].shape[1], "the base")
    return shape


def _prepare(part: Part, name: str, layer: nn.Module, x: Tensor) -> _Update:
    shape = _checked_shape(part, name, layer)
    coefficients = part.coefficients[name].to(x.device)
    basis = part.draw.basis(*shape, coefficients.shape[1])
    rows = None if part.rows is None else torch.tensor(part.rows, device=x.device)
    if isinstance(layer, nn.Embedding):
        return rows, _Lookup(coefficients, basis, layer)
    return rows, Term(rows, coefficients, basis, 1.0).prepared()


def _add(y: Tensor, x: Tensor, updates: list[_Update], count: int) -> Tensor:
    grouped = x.reshape(count, -1, x.shape[-1])
    if y.is_contiguous() and len(updates) == 1 and updates[0][0] is None and updates[0][1].dtype == y.dtype:
        # y is what the base layer gave, and no one else has
        return updates[0][1](grouped, onto=y.view(count, -1, y.shape[-1])).view(y.shape)
    return add_updates(y.reshape(count, -1, y.shape[-1]), grouped, updates).view(y.shape)


def _replace(y: Tensor, x: Tensor, head: _Head, count: int) -> Tensor:
    grouped = x.reshape(count, -1, x.shape[-1])[head.rows]
    own = grouped @ head.weight
    if head.bias is not None:
        own = own + head.bias
    return y.reshape(count, -1, y.shape[-1]).index_copy(0, head.rows, own.to(y.dtype)).view(y.shape)

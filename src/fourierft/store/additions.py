"""What is about to be added: names and numbers checked, and turned into rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fourierft.errors import CheckpointError, ConfigError, ShapeError, StoreError
from fourierft.format.checkpoint import AdapterCheckpoint, check_update, read_checkpoint
from fourierft.format.config import AdapterConfig
from fourierft.format.encoding import decode, encode
from fourierft.format.identity import BaseIdentity, check_same_base, identify_base
from fourierft.format.json_file import parse_json, read_bytes, read_json
from fourierft.format.layout import Layout
from fourierft.rows.names import BASE
from fourierft.store.adapter import METRICS_FILE, RECORD_FILE, pack_heads
from fourierft.store.layouts import base_shapes
from fourierft.store.seals import seal_blobs

MOST_CHARACTERS = 500
_MOST_FITTING = 10_000
_fitting: set[int] = set()  # kinds of adapters whose heads fit the base they name, in this process


class Source(NamedTuple):
    """A PEFT directory, and what lies beside its weights.

    Fields:
        checkpoint: its content.
        record: text of the fourierft.json that its training left; None if there is none.
        metrics: content of metrics.json; empty if there is none.
    """

    checkpoint: AdapterCheckpoint
    record: str | None
    metrics: dict[str, Any]


def read_source(adapter_dir: str | Path) -> Source:
    """Read a PEFT directory, or the adapter of a hub id.

    Raises: CheckpointError, if something in it is missing or damaged.
    """
    checkpoint = read_checkpoint(adapter_dir)
    record, metrics = checkpoint.path / RECORD_FILE, checkpoint.path / METRICS_FILE
    text = read_bytes(record) if os.path.lexists(record) else None
    scores = read_json(metrics) if os.path.lexists(metrics) else {}
    for file, content in ((record, {} if text is None else parse_json(text, record)), (metrics, scores)):
        if not isinstance(content, dict):
            raise CheckpointError(
                f"{file} holds a JSON {type(content).__name__} instead of an object; correct or remove it"
            )
    return Source(checkpoint, None if text is None else text.decode(), scores)


def base_of(
    config: AdapterConfig, who: str | Path, base: str | None = None, allow_other_base: bool = False
) -> BaseIdentity:
    """The base that an adapter goes with.

    Args:
        config: of the adapter.
        who: the adapter, for messages.
        base: hub id or folder in place of what the adapter names.
        allow_other_base: take that one, even if the adapter was made for another.

    Raises: StoreError, if none is named. CheckpointError, if it is not the one that the adapter says it was made for.
    """
    name = base or config.base_model
    if not name:
        raise StoreError("the adapter names no base model, which the store needs; give it with --model_name_or_path")
    here = identify_base(name, None if base else config.revision)
    if not allow_other_base:
        check_same_base(config.made_for, here, who)
    return here if here.is_known or not config.made_for.is_known else config.made_for


def check_whole(checkpoint: AdapterCheckpoint, base: str | None = None, allow_other_base: bool = False) -> None:
    """Raise CheckpointError if an adapter brings a head or embedding that its base has not, which all would need."""
    from fourierft.adapters.base_weights import check_matrices

    check_matrices(checkpoint, base, allow_other_base)


def fitted(checkpoint: AdapterCheckpoint, record: str | None, known: Layout | None, base: str | None) -> Layout:
    """The layout of an adapter, whose layers and heads fit its base as far as that is here.

    Args:
        checkpoint: the adapter.
        record: text of the fourierft.json beside it, which names the classes of its head.
        known: the layout, if the store has it already; then heads are asked of the base once for each kind of them.
        base: as of `AdapterStore.add`.

    Raises: CheckpointError or ShapeError, if they do not fit.
    """
    heads = tuple(sorted((name, tuple(tensor.shape)) for name, tensor in checkpoint.saved_modules.items()))
    key = hash((base or checkpoint.base_model, checkpoint.revision, known and known.digest, heads, record))
    if known is not None and (not heads or key in _fitting):
        return known
    layout = (known or Layout.of(checkpoint)).with_shapes(base_shapes(checkpoint, base) or {})
    if len(_fitting) < _MOST_FITTING:
        _fitting.add(key)
    return known or layout


def check_name(name: str) -> None:
    """Raise StoreError for what cannot be a name."""
    if not isinstance(name, str):
        raise StoreError(f"a name is text, not a {type(name).__name__}; choose another")
    if not 1 <= len(name) <= MOST_CHARACTERS:
        raise StoreError(f"the name has {len(name)} characters; use 1 to {MOST_CHARACTERS}")
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise StoreError(f"the name {name!r} has a character that is not valid text; choose another name")
    if name == BASE:
        raise StoreError(f"the name {name!r} means the base without an adapter; choose another")


def limits(prefix: str, after: str = "") -> dict[str, str]:
    """The first and the last that a name with this prefix can be, from another on, in the order of code points."""
    return {"first": max(prefix, after), "last": prefix + "\U0010ffff" * MOST_CHARACTERS}


def check_values(values: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Rows of numbers, float32 on the CPU.

    Args:
        values: [adapters, total n].
        layout: what they have to fit.

    Raises: ShapeError, if they do not, or are not finite.
    """
    if values.dim() != 2 or values.shape[1] != layout.total:
        raise ShapeError(
            f"got coefficients of shape {list(values.shape[1:])}; this layout of {len(layout.layers)} layers takes "
            f"[{layout.total}]"
        )
    if values.is_complex():
        raise ShapeError("the coefficients are complex numbers; give real ones, as PEFT trains them")
    values = values.detach().to("cpu", torch.float32)
    if not torch.isfinite(values).all():
        raise ShapeError(
            "the coefficients hold NaN or infinity, because the training diverged; "
            "train again with a lower learning rate"
        )
    check_update(values, layout.scaling, "the coefficients")
    return values


def make_rows(
    names: Sequence[str],
    layout: Layout,
    values: torch.Tensor,
    dtype: str,
    heads: Mapping[str, torch.Tensor] | None = None,
    metrics: Mapping[str, Any] | None = None,
    record: str | None = None,
) -> list[dict[str, Any]]:
    """Rows for the table of adapters, but for version and layout, and with the first half of the seal.

    Args:
        names: of the adapters.
        layout: of all of them.
        values: [adapters, total n], checked.
        dtype: to keep them in.
        heads: of each.
        metrics: of each.
        record: of each.

    Raises: ShapeError, if the dtype cannot hold the values. ConfigError, if the metrics are no JSON.
    """
    created = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    packed = pack_heads(heads or {})
    shared = {"dtype": dtype, "created": created, "heads": packed, "record": record}
    try:
        shared["metrics"] = json.dumps(dict(metrics), allow_nan=False) if metrics else None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"the metrics cannot be saved as JSON ({error}); give text and finite numbers") from error
    blobs = encode(values, dtype, layout.sizes)
    if not torch.isfinite(decode(blobs, dtype, layout.sizes)).all():
        raise ShapeError(
            f"{dtype} cannot hold coefficients as large as {float(values.abs().max()):.5g}; keep them in float32"
        )
    return [
        {"name": name, "coefficients": blob, "seal": seal_blobs(blob, packed), **shared}
        for name, blob in zip(names, blobs, strict=True)
    ]

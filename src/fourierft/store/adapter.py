"""An adapter as a store keeps it, and as the PEFT directory it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fourierft.files import as_path, check_output, written_beside
from fourierft.format.checkpoint import PREFIX, SUFFIX, AdapterCheckpoint
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE
from fourierft.format.layout import Layout
from fourierft.store.cards import write_card
from fourierft.store.study.norms import update_norm

RECORD_FILE, METRICS_FILE = "fourierft.json", "metrics.json"


@dataclass(frozen=True, eq=False)
class Adapter:
    """One version of an adapter.

    Attributes:
        name: any text.
        version: 1, 2, ...
        layout: config and layers.
        values: float32 [total n], the layers one after another, as on disk (the config's scaling is not in them).
        dtype: that they are kept in: float32, bfloat16 or int8.
        heads: parameter name in the base model -> tensor saved whole (`modules_to_save`, biases).
        metrics: scores and whatever else was given with it.
        record: text of the fourierft.json that its training left; None if there was none.
        created: when it was added, UTC, ISO 8601.
    """

    name: str
    version: int
    layout: Layout
    values: torch.Tensor
    dtype: str
    heads: dict[str, torch.Tensor] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    record: str | None = None
    created: str = ""

    @property
    def coefficients(self) -> dict[str, torch.Tensor]:
        """Layer name -> float32 [n], without the scaling."""
        return self.layout.split(self.values)

    @property
    def scaling(self) -> float:
        """Of all layers: dW is delta_weight(coefficients, basis, scaling)."""
        return self.layout.scaling

    @property
    def config(self) -> dict[str, Any]:
        """Content of its adapter_config.json."""
        return dict(self.layout.config)

    def write(self, output: str | Path) -> None:
        """Write it as a PEFT directory: config, weights, the record and metrics that came with it, and a model card.

        Kept in float32, the tensors are those that were added, byte for byte.

        Args:
            output: folder to make; may be there if it is empty.

        Raises: OutputExistsError, if `output` holds something. PlaceError, if it cannot be written.
        """
        from safetensors.torch import save_file

        output = as_path(output, "output")
        check_output(output)
        tensors = {
            f"{PREFIX}{layer.name}{SUFFIX}": self._on_disk(layer.name, layer.dtype) for layer in self.layout.layers
        }
        tensors |= {f"{PREFIX}{name}": tensor for name, tensor in self.heads.items()}
        with written_beside(output) as folder:
            (folder / CONFIG_FILE).write_text(json.dumps(self.config, indent=2, sort_keys=True), encoding="utf-8")
            save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
            if self.record is not None:
                (folder / RECORD_FILE).write_text(self.record, encoding="utf-8")
                kept = sum(head.numel() for head in self.heads.values())
                facts = [
                    ("Numbers", f"{self.layout.total:,} coefficients, {kept:,} in heads"),
                    ("Kept as", f"{self.dtype}, version {self.version}"),
                ]
                write_card(self.name, self.record, self.config, self.metrics, facts, folder)
            if self.metrics:
                (folder / METRICS_FILE).write_text(json.dumps(self.metrics, indent=2) + "\n", encoding="utf-8")

    def _on_disk(self, layer: str, dtype: str) -> torch.Tensor:
        """A layer in the dtype that it had in its checkpoint, if that holds it, in float32 if not."""
        values = self.coefficients[layer]
        kept = values.to(getattr(torch, dtype))
        return (kept if dtype != "float64" and torch.equal(kept.float(), values) else values).contiguous().clone()


class Loss(NamedTuple):
    """What keeping an adapter in another dtype loses.

    Fields:
        layers: layer name -> ||dW kept - dW|| / ||dW||, Frobenius norms; of the coefficients where the shape is
            unknown.
    """

    layers: dict[str, float]

    def describe(self, dtype: str) -> str:
        """One sentence; empty if nothing is lost."""
        worst = max(self.layers, key=lambda name: self.layers[name])
        if not self.layers[worst]:
            return ""
        median = torch.tensor(list(self.layers.values()), dtype=torch.float64).median()
        return (
            f"{dtype} loses {median:.2%} of dW in the median layer and {self.layers[worst]:.2%} in the worst, {worst}; "
            "--dtype float32 keeps all of it"
        )


def measure_loss(checkpoint: AdapterCheckpoint, kept: Adapter) -> Loss:
    """How far an adapter in a store is from the checkpoint that it was added from.

    Args:
        checkpoint: as it was read.
        kept: the adapter of the store.
    """
    layers = {}
    for name, found in kept.coefficients.items():
        original = checkpoint.coefficients[name].double()
        error, size = found.double() - original, original
        if kept.layout.bases is None:
            lost, whole = float(error.norm()), float(size.norm())
        else:
            norms = update_norm(torch.stack([error, size]), kept.layout.bases[name], 1.0)
            lost, whole = norms.tolist()
        layers[name] = lost / whole if whole else 0.0
    return Loss(layers)


def pack_heads(heads: Mapping[str, torch.Tensor]) -> bytes | None:
    """Heads as one safetensors blob; None if there are none."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in heads.items()}) if heads else None


def unpack_heads(blob: bytes | None) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(blob) if blob else {}

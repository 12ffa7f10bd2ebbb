"""What is in an adapter: numbers a layer, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fourierft.adapters.base import BaseSource, check_layers, find_shape
from fourierft.adapters.base_weights import BaseWeights
from fourierft.errors import CheckpointError, ConfigError
from fourierft.format.checkpoint import AdapterCheckpoint, read_checkpoint
from fourierft.format.config import WEIGHTS_FILE
from fourierft.spectral import delta_weight


@dataclass(frozen=True)
class LayerReport:
    """One adapted layer.

    Attributes:
        name: of the layer in the base model.
        n_frequency: number of coefficients, of all weights of a stack.
        n_bytes: they take on disk.
        coefficient_norm: ||c||, Euclidean.
        shape: (out_features, in_features), of each weight of a stack; None if the base model cannot be reached.
        frobenius_norm: of dW; None without a shape.
        spectral_norm: largest singular value of dW, in a stack of any; None without a shape.
        relative_norm: ||dW|| / ||W||, Frobenius; None if the base's weight is not on this machine.
        weights: how many the layer has; more than one in a stack, such as that of fused experts.
    """

    name: str
    n_frequency: int
    n_bytes: int
    coefficient_norm: float
    shape: tuple[int, int] | None = None
    frobenius_norm: float | None = None
    spectral_norm: float | None = None
    relative_norm: float | None = None
    weights: int = 1


@dataclass(frozen=True)
class AdapterReport:
    """An adapter's layers and totals.

    Attributes:
        checkpoint: the adapter.
        base: the base model used, or the one the adapter names.
        base_problem: why the base model could not be used; None if it could.
        layers: in the order of the file.
        saved_parameters: numbers in modules saved whole, such as the head.
        saved_bytes: they take on disk.
        file_bytes: size of the adapter's weights file.
    """

    checkpoint: AdapterCheckpoint
    base: str | None
    base_problem: str | None
    layers: tuple[LayerReport, ...]
    saved_parameters: int
    saved_bytes: int
    file_bytes: int

    @property
    def coefficients(self) -> int:
        return sum(layer.n_frequency for layer in self.layers)

    @property
    def coefficient_bytes(self) -> int:
        return sum(layer.n_bytes for layer in self.layers)

    @property
    def dense_parameters(self) -> int | None:
        """Number of entries of all dW; None without shapes."""
        if any(layer.shape is None for layer in self.layers):
            return None
        return sum(layer.weights * layer.shape[0] * layer.shape[1] for layer in self.layers if layer.shape)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tensors, for JSON."""
        checkpoint = self.checkpoint
        return {
            "adapter": str(checkpoint.path),
            "base": self.base,
            "base_problem": self.base_problem,
            "task_type": checkpoint.task_type,
            "scaling": checkpoint.scaling,
            "random_loc_seed": checkpoint.seed,
            "entries": "uniform" if checkpoint.band is None else "bandpass",
            "center": checkpoint.band and checkpoint.band[0],
            "width": checkpoint.band and checkpoint.band[1],
            "layers": [vars(layer) for layer in self.layers],
            "totals": {
                "layers": len(self.layers),
                "coefficients": self.coefficients,
                "coefficient_bytes": self.coefficient_bytes,
                "dense_parameters": self.dense_parameters,
                "saved_module_parameters": self.saved_parameters,
                "saved_module_bytes": self.saved_bytes,
                "file_bytes": self.file_bytes,
            },
        }


def inspect_adapter(
    source: str | Path,
    base: str | None = None,
    layers: list[str] | None = None,
    trust_remote_code: bool = False,
    allow_other_base: bool = False,
) -> AdapterReport:
    """Measure an adapter, layer by layer.

    A base that cannot be reached costs the shapes and what needs them, not the report.

    Args:
        source: folder or hub id of the adapter.
        base: folder or hub id instead of the base the adapter names; then it must be reachable.
        layers: names, or ends of names, of the layers wanted; None for all.
        trust_remote_code: run model code that comes with the base.
        allow_other_base: measure against a base of the same shapes that the adapter was not made for.

    Raises: CheckpointError or ShapeError, if the adapter is damaged or does not fit the base. ConfigError, if a layer
        is unknown.
    """
    checkpoint = read_checkpoint(source)
    names = select_layers(checkpoint, layers)
    problem = None
    measured: list[LayerReport]
    try:
        place = BaseSource(checkpoint, base, trust_remote_code, allow_other_base)
        model = place.build_meta()
    except CheckpointError as error:
        if base is not None:
            raise
        problem, measured = str(error), [describe_layer(checkpoint, name) for name in names]
    else:
        check_layers(model, checkpoint, place.name)
        weights = BaseWeights(place, model)
        shapes = {name: find_shape(model, name, place.name) for name in names}
        measured = [describe_layer(checkpoint, name, shapes[name], weights.read(name)) for name in names]
    saved = [*checkpoint.saved_modules.values(), *checkpoint.matrices.values()]
    return AdapterReport(
        checkpoint=checkpoint,
        base=base or checkpoint.base_model,
        base_problem=problem,
        layers=tuple(measured),
        saved_parameters=sum(tensor.numel() for tensor in saved),
        saved_bytes=sum(tensor.nbytes for tensor in saved),
        file_bytes=(checkpoint.path / WEIGHTS_FILE).stat().st_size,
    )


def describe_layer(
    checkpoint: AdapterCheckpoint,
    name: str,
    shape: tuple[int, int] | None = None,
    weight: torch.Tensor | None = None,
) -> LayerReport:
    """Measure one layer.

    Args:
        checkpoint: the adapter.
        name: of the layer.
        shape: (out_features, in_features), if known.
        weight: the base's, either way round, if it is here.
    """
    coefficients = checkpoint.coefficients[name]
    known = LayerReport(
        name=name,
        n_frequency=coefficients.numel(),
        n_bytes=coefficients.nbytes,
        coefficient_norm=float(torch.linalg.vector_norm(coefficients.double())),
        weights=coefficients.shape[:-1].numel(),
    )
    if shape is None:
        return known
    delta = layer_update(checkpoint, name, shape)
    size = float(torch.linalg.vector_norm(delta))
    largest = max(spectral_norm(own) for own in delta.reshape(-1, *shape))
    base_size = None if weight is None else float(torch.linalg.vector_norm(weight.float()))
    return replace(
        known,
        shape=shape,
        frobenius_norm=size,
        spectral_norm=largest,
        relative_norm=size / base_size if base_size else None,
    )


def layer_update(checkpoint: AdapterCheckpoint, name: str, shape: tuple[int, int]) -> torch.Tensor:
    """dW of a layer: [out, in], float32; of a stack, [.., out, in].

    Raises: ShapeError, if the layer is too small for its coefficients.
    """
    coefficients = checkpoint.coefficients[name].float()
    basis = checkpoint.basis(*shape, coefficients.shape[-1])
    rows = coefficients.reshape(-1, basis.n_frequency)
    updates = torch.stack([delta_weight(own, basis, checkpoint.scaling) for own in rows])
    return updates.view(*coefficients.shape[:-1], *shape)


def select_layers(checkpoint: AdapterCheckpoint, wanted: list[str] | None) -> list[str]:
    """The adapter's layers whose name is, or ends in, one of those wanted; all for None.

    Raises: ConfigError, if one wanted matches nothing.
    """
    names = list(checkpoint.coefficients)
    if wanted is None:
        return sorted(names, key=natural_order)
    for end in wanted:
        if not any(matches(name, end) for name in names):
            raise ConfigError(f"the adapter has no layer {end}; it has {len(names)} layers, such as {names[0]}")
    return sorted((name for name in names if any(matches(name, end) for end in wanted)), key=natural_order)


def matches(name: str, end: str) -> bool:
    """Whether `end` is the last parts of a dotted name."""
    return name == end or name.endswith(f".{end}")


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in name.split(".")]


def spectral_norm(matrix: torch.Tensor, steps: int = 60) -> float:
    """Largest singular value: that of the matrix on a Krylov space of `steps` vectors (Lanczos, reorthogonalised).

    Exact up to rounding when `steps` reaches the smaller side; far cheaper than a decomposition above that.

    Args:
        matrix: [out, in], float32 or float64.
        steps: vectors in the space; each costs two products with the matrix.
    """
    if matrix.shape[1] > matrix.shape[0]:
        matrix = matrix.T
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(matrix.shape[1], generator=generator, dtype=matrix.dtype)
    space = (vector / torch.linalg.vector_norm(vector)).unsqueeze(0)  # [k, in], orthonormal rows
    images: list[torch.Tensor] = []
    for _ in range(min(steps, matrix.shape[1])):
        images.append(matrix @ space[-1])
        vector = matrix.T @ images[-1]
        size = torch.linalg.vector_norm(vector)
        for _ in range(2):  # twice, against cancellation
            vector = vector - space.T @ (space @ vector)
        left = torch.linalg.vector_norm(vector)
        if left <= 1e-6 * size:  # the space holds all there is
            break
        space = torch.cat([space, (vector / left).unsqueeze(0)])
    return float(torch.linalg.matrix_norm(torch.stack(images), 2))

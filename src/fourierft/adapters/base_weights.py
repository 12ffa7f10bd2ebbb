"""The weights of a base model on this machine, read one at a time, without loading it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.utils import cached_file

from fourierft.adapters.base import BaseSource
from fourierft.errors import CheckpointError
from fourierft.format.checkpoint import AdapterCheckpoint
from fourierft.format.json_file import read_json

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"


class BaseWeights:
    """Weights of a base model, read one at a time from safetensors files on this machine.

    Args:
        source: the base model; files in the hub's cache count as here, nothing is downloaded.
        model: the base on the meta device: its file may or may not carry its `base_model_prefix`, and of weights that
            are tied it carries one.
    """

    def __init__(self, source: BaseSource, model: PreTrainedModel):
        self.prefix, self.ties = model.base_model_prefix, model.all_tied_weights_keys
        self.files = weight_files(source)

    def read(self, layer: str) -> torch.Tensor | None:
        """The weight of a layer, or the parameter of that name, as it lies in the file; None if it is not here so."""
        own = f"{layer}.weight"
        source = self.ties.get(own, own)
        for weight in (own, source, *(target for target, other in self.ties.items() if other == source), layer):
            for name in (weight, weight.removeprefix(f"{self.prefix}."), f"{self.prefix}.{weight}"):
                if name in self.files:
                    with safe_open(self.files[name], framework="pt") as file:
                        return file.get_tensor(name)
        return None


def check_matrices(checkpoint: AdapterCheckpoint, base: str | None = None, allow_other_base: bool = False) -> None:
    """Check that what an adapter brings of head and embedding is what its base has, and so need not be kept.

    Args:
        checkpoint: the adapter.
        base: folder or hub id instead of the base the adapter names.
        allow_other_base: as of `BaseSource`.

    Raises: CheckpointError, if it is not, or the base is not here to be asked.
    """
    if not checkpoint.matrices:
        return
    advice = "adapters of one base share it; save the base that this one was trained on, and name that"
    source = BaseSource(checkpoint, base, allow_other_base=allow_other_base)
    weights = BaseWeights(source, source.build_meta())
    for name, tensor in checkpoint.matrices.items():
        own = weights.read(name.removesuffix(".weight"))
        if own is None:
            raise CheckpointError(
                f"{checkpoint.path} contains the whole matrix {name} {list(tensor.shape)}, "
                f"and it cannot be compared with the base's, because the weights of {source.name} "
                "are not on this machine as safetensors; download them, or save the adapter "
                "again with save_embedding_layers=False"
            )
        if own.shape != tensor.shape or not torch.equal(own.to(tensor.dtype), tensor):
            raise CheckpointError(
                f"{checkpoint.path} contains the whole matrix {name} {list(tensor.shape)}, "
                f"which differs from that of the base {source.name} {list(own.shape)}; {advice}"
            )


def weight_files(source: BaseSource) -> dict[str, Path]:
    """Tensor name -> file that holds it, for a base with safetensors on this machine; empty for any other."""
    options = {
        "revision": source.options.get("revision"),
        "local_files_only": True,
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    index = cached_file(source.name, INDEX_FILE, **options)
    single = cached_file(source.name, WEIGHTS_FILE, **options)
    try:
        if index is not None:
            names = read_json(Path(index))["weight_map"]
            paths = {name: Path(index).parent / file for name, file in names.items()}
            return {name: path for name, path in paths.items() if path.is_file()}
        if single is not None:
            with safe_open(single, framework="pt") as file:
                return {name: Path(single) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the weights of the base {source.name} are damaged ({error}); download or save them again"
        ) from error
    return {}

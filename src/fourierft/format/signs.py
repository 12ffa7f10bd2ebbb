"""The signs of a model's weights, hashed: the same for its copies in any precision, others for any other checkpoint.

Casting a number keeps its sign, and quantising a model leaves its embeddings as they are. So there are two hashes, of
the embeddings and of the matrices in numbered layers, each over 256 signs at the start of every matrix, and at the end
of those in layers; a quantised copy has the first alone. What differs with the class that saved the model is left out:
heads, names, rows that were added to an embedding.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fourierft.errors import CheckpointError
from fourierft.format.header import WIDTHS, read_header
from fourierft.format.json_file import open_ordinary, read_json

_INDEX = ("model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.json")
_SINGLE = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_NUMBERED = re.compile(r"\.\d+\.")
_EMBEDDING = re.compile(r"emb|wte|wpe|shared")
_SIGNS = 256  # at either end of a matrix
_LENGTH = 16  # hexadecimal digits of a hash
_ABSENT = "-"


def read_signs(folder: Path) -> str | None:
    """`EMBEDDINGS:MATRICES` of the safetensors in a folder, either `-` if there is none; None if both are.

    Matrices are those in numbered layers, such as `layers.7.mlp.up_proj.weight`; kernels of convolutions count too.
    """
    try:
        files = _weight_files(folder)
        found = [_file_signs(file) for file in files]
        config = read_json(folder / "config.json")
    except (CheckpointError, OSError):
        return None
    embeddings = sorted(signs for own, _, _ in found for signs in own)
    matrices = sorted(signs for _, own, _ in found for signs in own)
    quantised = isinstance(config, dict) and "quantization_config" in config
    if quantised or any(packed for _, _, packed in found):
        matrices = []
    if not embeddings and not matrices:
        return None
    return f"{_hash(embeddings)}:{_hash(matrices)}"


def same_signs(one: str, other: str) -> bool | None:
    """Whether two models have the same signs in all that both have; None if there is nothing that both have."""
    pairs = list(zip(one.split(":"), other.split(":"), strict=False))
    both = [pair for pair in pairs if _ABSENT not in pair]
    return all(mine == theirs for mine, theirs in both) if both else None


def _weight_files(folder: Path) -> list[Path]:
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    for name in _INDEX:
        if (folder / name).is_file():
            index = read_json(folder / name)
            files = index.get("weight_map") if isinstance(index, dict) else None
            return sorted({folder / str(file) for file in files.values()}) if isinstance(files, dict) else []
    return []


def _file_signs(path: Path) -> tuple[list[bytes], list[bytes], bool]:
    """Hashes of the embeddings and of the matrices in a file, and whether it has matrices that are no floats."""
    embeddings: list[bytes] = []
    matrices: list[bytes] = []
    packed = False
    with os.fdopen(open_ordinary(path, sys.maxsize), "rb") as file:
        header = read_header(file, os.fstat(file.fileno()).st_size, path)
        for name, tensor in header.tensors.items():
            if len(tensor.shape) < 2 or not name.endswith("weight"):
                continue
            start, stop = header.start + tensor.begin, header.start + tensor.end
            if tensor.dtype not in _FLOATS:
                packed = True
            elif _NUMBERED.search(name):
                size = min(stop - start, _SIGNS * WIDTHS[tensor.dtype])
                matrices.append(_hash_of(file, [start, stop - size], size, tensor.dtype))
            elif _EMBEDDING.search(name):
                size = min(stop - start, _SIGNS * WIDTHS[tensor.dtype])
                embeddings.append(_hash_of(file, [start], size, tensor.dtype))
    return embeddings, matrices, packed


def _hash_of(file: BinaryIO, places: list[int], size: int, dtype: str) -> bytes:
    signs = b""
    for place in places:
        file.seek(place)
        numbers = np.frombuffer(file.read(size), dtype=np.uint8)
        signs += np.packbits(numbers[WIDTHS[dtype] - 1 :: WIDTHS[dtype]] >> 7).tobytes()  # the last byte has the sign
    return hashlib.sha256(signs).digest()


def _hash(signs: list[bytes]) -> str:
    return hashlib.sha256(b"".join(signs)).hexdigest()[:_LENGTH] if signs else _ABSENT

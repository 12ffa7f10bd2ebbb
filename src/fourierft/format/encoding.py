"""Coefficients as bytes and back, a row an adapter.

float32 and bfloat16 are the numbers one after another, little-endian. int8 is one float32 scale a layer, the largest
magnitude over 127, then the numbers in units of their layer's scale, rounded to the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fourierft.errors import ConfigError

DTYPES = ("float32", "bfloat16", "int8")
_LARGEST = 127
_LARGEST_SCALE = float(
    np.nextafter(np.finfo(np.float32).max / np.float32(_LARGEST), np.float32(0))
)  # times 127: finite


def check_dtype(dtype: str) -> None:
    """Raise ConfigError for a dtype that coefficients cannot be kept in."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype} is unknown; use one of {', '.join(DTYPES)}")


def encoded_bytes(dtype: str, sizes: Sequence[int]) -> int:
    """Bytes of one adapter whose layers have `sizes` coefficients."""
    total = sum(sizes)
    return {"float32": 4 * total, "bfloat16": 2 * total, "int8": 4 * len(sizes) + total}[dtype]


def encode(values: torch.Tensor, dtype: str, sizes: Sequence[int]) -> list[bytes]:
    """The bytes of each row.

    Args:
        values: [adapters, total], float32.
        dtype: one of DTYPES.
        sizes: coefficients of each layer, in the order of the row.
    """
    if dtype == "int8":
        rows = _quantise(values, sizes)
    else:
        rows = values.to(getattr(torch, dtype)).contiguous().view(torch.uint8).numpy()
    return [row.tobytes() for row in rows]


def decode(blobs: Sequence[bytes], dtype: str, sizes: Sequence[int]) -> torch.Tensor:
    """The numbers of equally long blobs: float32 [adapters, total]."""
    rows = np.frombuffer(bytearray().join(blobs), dtype=np.uint8).reshape(len(blobs), -1)
    if dtype != "int8":
        return torch.from_numpy(rows).view(getattr(torch, dtype)).float()
    scales = torch.from_numpy(rows[:, : 4 * len(sizes)].copy().view("<f4"))  # [adapters, layers]
    numbers = torch.from_numpy(rows[:, 4 * len(sizes) :].view(np.int8))
    return numbers * _spread(scales, sizes)


def to_int8(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in units of a scale of their own, the largest magnitude over 127: int8 [rows, n], and scales [rows, 1].

    Args:
        rows: [rows, n], float32.
    """
    scales = (rows.abs().amax(1, keepdim=True) / _LARGEST).clamp(max=_LARGEST_SCALE)
    numbers = (rows / torch.where(scales > 0, scales, 1.0)).round().clamp(-_LARGEST, _LARGEST)
    return numbers.to(torch.int8), scales


def _quantise(values: torch.Tensor, sizes: Sequence[int]) -> np.ndarray:
    numbers, scales = zip(*(to_int8(block) for block in values.split(list(sizes), dim=1)), strict=True)
    return np.hstack([torch.cat(part, dim=1).numpy().view(np.uint8) for part in (scales, numbers)])


def _spread(scales: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    return scales.repeat_interleave(torch.tensor(sizes), dim=1)

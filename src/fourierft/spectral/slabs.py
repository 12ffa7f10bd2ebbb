"""Slabs of tokens: parts of a batch, so that an input of any length costs the memory of one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_SLAB = 1 << 19  # elements of the wider side, 2 MB in float32: what a core's cache holds
_DEVICE_SLAB = 1 << 25  # elsewhere, 128 MB: so much work that a kernel's start does not count
GRADIENT_BLOCK = 128  # tokens of a block that is only read: long rows make cheap products


def slabs(x: Tensor, width: int) -> Iterator[tuple[slice, slice]]:
    """Slices of the sets and of the tokens that cover x, each of as many elements as suit the device."""
    sets, tokens = x.shape[:2]
    most = max(1, (_SLAB if x.device.type == "cpu" else _DEVICE_SLAB) // width)
    token_step = min(max(tokens, 1), max(GRADIENT_BLOCK, most // GRADIENT_BLOCK * GRADIENT_BLOCK))
    set_step = max(1, most // token_step)
    for row in range(0, sets, set_step):
        for token in range(0, tokens, token_step):
            yield slice(row, row + set_step), slice(token, token + token_step)


def write(target: Tensor, blocks: Tensor, add: bool) -> None:
    """Write blocks to, or add them to, a part of a result; the sum is rounded once."""
    blocks = blocks.view(target.shape)
    if add:
        target += blocks
    else:
        target.copy_(blocks)

"""What an adapter adds to one linear layer, a path at a time: the kernels of its forward and of its backward pass.

Every path takes tokens [t, i] in bfloat16 to [t, o] and adds to a product that stands in memory; the backward pass
gives the gradients of the input, onto that of the base, and of the adapter's numbers. FourierFT has n entries a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lab.bench.limits.hardware import FLOAT, HALF, Kernel

Kernels: TypeAlias = list[Kernel]
_TILE = 16  # a side of the products of tensor cores
_RADIX = 8  # values that a thread transforms in registers between two exchanges through shared memory
_SPLIT_CONSTANT, _SPLIT_BOTH = 2, 3  # bfloat16 products that stand for one of float32: of exact tokens, of float32


@dataclass(frozen=True)
class Path:
    """A way to compute an adapter. `size` of its functions is n, or LoRA's rank."""

    name: str
    forward: Callable[[int, int, int, int], Kernels]  # t, i, o, size
    backward: Callable[[int, int, int, int], Kernels]


def product(t: int, i: int, o: int) -> Kernel:
    """x W^T, or the gradient of x: bfloat16, the weight read once."""
    return Kernel(memory=HALF * (t * i + t * o + i * o), half=2.0 * t * i * o)


def real_transform(length: int) -> float:
    """Flops of the real transform of one token on vector units."""
    return 2.5 * length * math.log2(length)


def tensor_factors(length: int) -> tuple[int, int, int]:
    """Three factors of a length, padded to tiles, whose products cost least.

    A factor that is no multiple of the tile costs as many products as the next multiple.
    """
    divisors = [d for d in range(1, length + 1) if length % d == 0]
    triples = [(a, b, length // a // b) for a in divisors for b in divisors if length // a % b == 0]
    return min(triples, key=lambda triple: sum(_padded(factor) ** 2 / factor for factor in triple))


def _padded(factor: int) -> int:
    return -(-factor // _TILE) * _TILE if factor > 1 else 0


def tensor_transform(length: int, passes: tuple[int, int]) -> float:
    """Flops of the transform of one token on tensor cores; passes of the first factor's product, and of the others'.

    Two real tokens go as one complex one: 4 flops a token and product instead of 8. All bins are computed.
    """
    first, *others = (_padded(factor) ** 2 / factor if factor > 1 else 0.0 for factor in tensor_factors(length))
    return 4.0 * length * (passes[0] * first + passes[1] * sum(others))


def _exchanges(length: int) -> float:
    """Bytes through shared memory: half as many complex values as the length, written and read between passes."""
    passes = math.ceil(math.log(length / 2, _RADIX))
    return passes * 2 * (2 * FLOAT) * length / 2


# torch's transforms, as spectral/token_transforms.py calls them: each step reads and writes float32 in main memory.


def _to_spectrum(t: int, length: int) -> Kernels:
    """To float32, rfft, to frequency-major."""
    size = t * length
    cast, turn = Kernel(memory=(HALF + FLOAT) * size), Kernel(memory=2 * FLOAT * size)
    return [cast, Kernel(memory=2 * FLOAT * size, vector=t * real_transform(length)), turn]


def _from_spectrum(t: int, length: int) -> Kernels:
    """To token-major, irfft, onto the result."""
    size = t * length
    turn, onto = Kernel(memory=2 * FLOAT * size), Kernel(memory=(FLOAT + 2 * HALF) * size)
    return [turn, Kernel(memory=2 * FLOAT * size, vector=t * real_transform(length)), onto]


def _torch_forward(t: int, i: int, o: int, n: int) -> Kernels:
    mix = Kernel(memory=FLOAT * t * (2 * n + o), vector=4.0 * n * t)
    return [*_to_spectrum(t, i), mix, *_from_spectrum(t, o)]


def _torch_backward(t: int, i: int, o: int, n: int) -> Kernels:
    sampled = Kernel(memory=FLOAT * 4 * n * t, vector=4.0 * n * t)
    mix = Kernel(memory=FLOAT * t * (2 * n + i), vector=4.0 * n * t)
    return [*_to_spectrum(t, o), *_to_spectrum(t, i), sampled, mix, *_from_spectrum(t, i)]


# Cosines and sines of the entries as matrices [length, 2n], made once a shape: two products of cuBLAS and a scale.


def _factor_paths(name: str, onto_bins: int, from_bins: int) -> Path:
    """onto_bins, from_bins: bfloat16 products of either side, 1 each if cosines are rounded as LoRA's A and B are."""

    def reduce(t: int, length: int, n: int) -> Kernel:
        matrices = onto_bins * HALF * length * 2 * n
        return Kernel(
            memory=HALF * t * length + matrices + FLOAT * t * 2 * n, half=onto_bins * 2.0 * t * length * 2 * n
        )

    def expand(t: int, length: int, n: int) -> Kernel:
        parts = 1 if from_bins == 1 else 2
        memory = parts * HALF * 2 * n * (t + length) + 2 * HALF * t * length
        return Kernel(memory=memory, half=from_bins * 2.0 * t * length * 2 * n)

    def scale(t: int, n: int, reads: int) -> Kernel:
        return Kernel(memory=t * 2 * n * (reads * FLOAT + FLOAT), vector=float(reads * t * 2 * n))

    def forward(t: int, i: int, o: int, n: int) -> Kernels:
        return [reduce(t, i, n), scale(t, n, 1), expand(t, o, n)]

    def backward(t: int, i: int, o: int, n: int) -> Kernels:
        return [reduce(t, o, n), scale(t, n, 2), expand(t, i, n)]  # the input's bins are kept from the forward pass

    return Path(name, forward, backward)


# One kernel a pass: tokens are read, transformed, carried and transformed back in shared memory, the result added to.


def _vector_forward(t: int, i: int, o: int, n: int) -> Kernels:
    flops = real_transform(i) + real_transform(o) + 4.0 * n
    shared = _exchanges(i) + _exchanges(o) + 2 * FLOAT * 2 * n
    return [Kernel(memory=HALF * t * (i + 2 * o) + 2 * FLOAT * n * t, vector=t * flops, shared=t * shared)]


def _vector_backward(t: int, i: int, o: int, n: int) -> Kernels:
    return _vector_forward(t, o, i, n)  # the input's n bins are read instead of written


def _tensor_paths(name: str, passes: tuple[int, int], tf32: bool) -> Path:
    def forward(t: int, i: int, o: int, n: int) -> Kernels:
        inner = (passes[1], passes[1])  # what is transformed back is float32 from its first product on
        flops = t * (tensor_transform(i, passes) + tensor_transform(o, inner))
        shared = t * 3 * (2 * FLOAT) * (i + o)  # two exchanges between three products, and one with the bins
        memory = HALF * t * (i + 2 * o) + 2 * FLOAT * n * t
        units = {"tf32": flops} if tf32 else {"half": flops}
        return [Kernel(memory=memory, vector=4.0 * n * t, shared=shared, **units)]

    return Path(name, forward, lambda t, i, o, n: forward(t, o, i, n))


# LoRA as PEFT computes it, its numbers in bfloat16: two products, a scale and a sum.


def _lora_forward(t: int, i: int, o: int, r: int) -> Kernels:
    wide = _padded(r)
    down = Kernel(memory=HALF * (t * i + r * i + t * r), half=2.0 * t * i * wide)
    up = Kernel(memory=HALF * (t * r + r * o + t * o), half=2.0 * t * o * wide)
    return [down, up, Kernel(memory=2 * HALF * t * o), Kernel(memory=3 * HALF * t * o)]


def _lora_backward(t: int, i: int, o: int, r: int) -> Kernels:
    wide = _padded(r)
    scale, onto = Kernel(memory=2 * HALF * t * o), Kernel(memory=3 * HALF * t * i)
    of_o = Kernel(memory=HALF * t * (o + r), half=2.0 * t * o * wide)  # of B, and of what it reads
    of_i = Kernel(memory=HALF * t * (i + r), half=2.0 * t * i * wide)  # of A, and of its input
    return [scale, of_o, of_o, of_i, of_i, onto]


# Stock FourierFT: the update as a matrix by the complex transform, in float32, then a product of its own.


def _stock_forward(t: int, i: int, o: int, n: int) -> Kernels:
    size = i * o
    pad = Kernel(memory=2 * FLOAT * size)
    transform = Kernel(memory=2 * 4 * FLOAT * size, vector=5.0 * size * math.log2(size))  # rows, then columns
    real = Kernel(memory=3 * FLOAT * size)
    apply = Kernel(memory=FLOAT * (t * (i + o) + size), vector=2.0 * t * size)
    return [pad, transform, real, Kernel(memory=(HALF + FLOAT) * t * i), apply, Kernel(memory=2 * FLOAT * t * o)]


def _stock_backward(t: int, i: int, o: int, n: int) -> Kernels:
    size = i * o
    onto_x = Kernel(memory=FLOAT * (t * (i + o) + size), vector=2.0 * t * size)
    pad, real = Kernel(memory=3 * FLOAT * size), Kernel(memory=3 * FLOAT * size)
    transform = Kernel(memory=2 * 4 * FLOAT * size, vector=5.0 * size * math.log2(size))
    return [onto_x, onto_x, real, transform, pad, Kernel(memory=2 * FLOAT * t * i)]


STOCK = Path("stock FourierFT", _stock_forward, _stock_backward)
LORA = Path("LoRA", _lora_forward, _lora_backward)
TORCH = Path("torch's transforms", _torch_forward, _torch_backward)
ROUNDED = _factor_paths("cosine matrices, rounded", 1, 1)
FACTORS = _factor_paths("cosine matrices, split", _SPLIT_CONSTANT, _SPLIT_BOTH)
VECTOR = Path("a kernel on vector units", _vector_forward, _vector_backward)
TF32 = _tensor_paths("a kernel on tensor cores, tf32 x 3", (3, 3), True)
SPLIT = _tensor_paths("a kernel on tensor cores, bfloat16 split", (_SPLIT_CONSTANT, _SPLIT_BOTH), False)
OURS = (TORCH, ROUNDED, FACTORS, VECTOR, TF32, SPLIT)

"""The kernels. Two real tokens are one complex one: the first its real part, the second its imaginary part.

Shapes: x [sets, tokens, length]; held [sets, pairs, 2, count] float32, the real and imaginary parts of the bins that
are kept, and last the scale of a token. A program transforms one pair, SLAB values of k1 at a time: what it holds does
not grow with the length.

SPLIT products take each float32 factor as two bfloat16 numbers, whose three larger products are summed in float32,
right to 2^-15; EXACT says that tokens are bfloat16, which need no second. Other products are tf32x3, right to float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # there, products of bfloat16 would be those of their bits


@triton.jit
def _dot(a, b, onto):
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), onto)
    else:
        return tl.dot(a, b, onto)


@triton.jit
def _product(a, b, onto, SPLIT: tl.constexpr, EXACT: tl.constexpr):
    """The sum of onto and a times b; EXACT: a is bfloat16."""
    if EXACT:
        high = b.to(tl.bfloat16)
        return _dot(a, high, _dot(a, (b - high.to(tl.float32)).to(tl.bfloat16), onto))
    elif SPLIT:
        high_a, high_b = a.to(tl.bfloat16), b.to(tl.bfloat16)
        low_a, low_b = (a - high_a.to(tl.float32)).to(tl.bfloat16), (b - high_b.to(tl.float32)).to(tl.bfloat16)
        return _dot(high_a, high_b, _dot(high_a, low_b, _dot(low_a, high_b, onto)))
    else:
        return tl.dot(a.to(tl.float32), b, onto, input_precision="tf32x3")


@triton.jit
def _times(re, im, cos, sin, real, imaginary, SPLIT: tl.constexpr, EXACT: tl.constexpr):
    """Adds rows re, im [rows, P] times a factor [P, P] onto real, imaginary."""
    real = _product(im, -sin, _product(re, cos, real, SPLIT, EXACT), SPLIT, EXACT)
    return real, _product(im, cos, _product(re, sin, imaginary, SPLIT, EXACT), SPLIT, EXACT)


@triton.jit
def _block(tables, row, column, SIDE: tl.constexpr, P: tl.constexpr):
    """[P, P] of a factor [SIDE, SIDE], from a row and a column on."""
    at = (row + tl.arange(0, P))[:, None] * SIDE + column + tl.arange(0, P)[None, :]
    return tl.load(tables + at), tl.load(tables + SIDE * SIDE + at)


@triton.jit
def _turned(re, im, cos, sin):
    return re * cos - im * sin, re * sin + im * cos


@triton.jit
def _finished(
    real, imaginary, tables, slab,
    P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr, SLAB: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """What follows the first factor: from [P2 * P3, SLAB], whose columns are k1 from slab on, to [SLAB * P2, P3]."""
    tables += 2 * P1 * P1
    turns = tables + 2 * P2 * P2 + 2 * P3 * P3
    real = tl.permute(tl.reshape(real, (P2, P3, SLAB)), (1, 2, 0))  # [P3, SLAB, P2]
    imaginary = tl.permute(tl.reshape(imaginary, (P2, P3, SLAB)), (1, 2, 0))
    at = (slab + tl.arange(0, SLAB))[:, None] * P2 + tl.arange(0, P2)[None, :]
    cos, sin = tl.load(turns + at), tl.load(turns + P1 * P2 + at)
    real, imaginary = _turned(real, imaginary, cos[None, :, :], sin[None, :, :])
    real, imaginary = tl.reshape(real, (P3 * SLAB, P2)), tl.reshape(imaginary, (P3 * SLAB, P2))
    cos, sin = _block(tables, 0, 0, P2, P2)
    zeros = tl.zeros((P3 * SLAB, P2), tl.float32)
    real, imaginary = _times(real, imaginary, cos, sin, zeros, zeros, SPLIT, False)
    real = tl.reshape(tl.permute(tl.reshape(real, (P3, SLAB, P2)), (1, 2, 0)), (SLAB * P2, P3))
    imaginary = tl.reshape(tl.permute(tl.reshape(imaginary, (P3, SLAB, P2)), (1, 2, 0)), (SLAB * P2, P3))
    if P3 > 1:
        at = (slab * P2 + tl.arange(0, SLAB * P2))[:, None] * P3 + tl.arange(0, P3)[None, :]
        turns += 2 * P1 * P2
        real, imaginary = _turned(real, imaginary, tl.load(turns + at), tl.load(turns + P1 * P2 * P3 + at))
        cos, sin = _block(tables + 2 * P2 * P2, 0, 0, P3, P3)
        zeros = tl.zeros((SLAB * P2, P3), tl.float32)
        real, imaginary = _times(real, imaginary, cos, sin, zeros, zeros, SPLIT, False)
    return real, imaginary


@triton.jit
def _places(
    start, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr, SLAB: tl.constexpr
):
    """What a transform reads, of q1 from start on: [P2 * P3, SLAB]."""
    rows, first = tl.arange(0, P2 * P3)[:, None], start + tl.arange(0, SLAB)[None, :]
    second, third = rows // P3, rows % P3
    return first * (N2 * N3) + second * N3 + third, (first < N1) & (second < N2) & (third < N3)


@triton.jit
def _targets(
    slab, N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr, SLAB: tl.constexpr
):
    """What it writes, of k1 from slab on: [P3, P2, SLAB]."""
    third, second = tl.arange(0, P3)[:, None, None], tl.arange(0, P2)[None, :, None]
    first = slab + tl.arange(0, SLAB)[None, None, :]
    return first + N1 * second + N1 * N2 * third, (first < N1) & (second < N2) & (third < N3)


@triton.jit
def _if_left(at, there, left, LENGTH: tl.constexpr):
    """The places of a token, none if no tokens are left."""
    return there & (at < tl.minimum(left, 1) * LENGTH)


@triton.jit
def _scale(
    x, left,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr,
    P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr, SLAB: tl.constexpr,
):  # fmt: skip
    """The power of two below the largest value of a token, 1 for zeros; not a number if a value is not finite."""
    largest = tl.zeros((P2 * P3, SLAB), tl.float32)
    spoilt = tl.zeros((P2 * P3, SLAB), tl.float32)
    for start in range(0, P1, SLAB):
        at, there = _places(start, N1, N2, N3, P2, P3, SLAB)
        values = tl.load(x + at, mask=_if_left(at, there, left, N1 * N2 * N3), other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.where(values == values, tl.abs(values), 0.0))
        spoilt += values * 0.0
    top = tl.max(tl.max(largest, axis=1), axis=0)
    power = (top.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    return tl.where(power > 0.0, power, 1.0) + tl.sum(tl.sum(spoilt, axis=1), axis=0)


@triton.jit
def _scaled(x, scale):
    """A token of numbers below 2, zeros if it is not finite: so it leaves the other of its pair alone."""
    return tl.where(scale == scale, x.to(tl.float32) / scale, 0.0).to(x.dtype)


@triton.jit
def hold(
    x, held, slots, tables, tokens, set_stride, token_stride, count,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr,
    SLAB: tl.constexpr, SPLIT: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Transform pairs of tokens, and keep the bins that have a slot. Grid: (pairs, sets)."""
    pair, group = tl.program_id(0), tl.program_id(1).to(tl.int64)
    left = tokens - 2 * pair - 1  # tokens beyond the first of the pair
    first = x + group * set_stride + (2 * pair).to(tl.int64) * token_stride
    second = first + token_stride
    first_scale = _scale(first, left + 1, N1, N2, N3, P1, P2, P3, SLAB)
    second_scale = _scale(second, left, N1, N2, N3, P1, P2, P3, SLAB)
    kept = held + (group * tl.num_programs(0) + pair) * 2 * count
    for slab in range(0, P1, SLAB):
        real, imaginary = tl.zeros((P2 * P3, SLAB), tl.float32), tl.zeros((P2 * P3, SLAB), tl.float32)
        for start in range(0, P1, SLAB):
            at, there = _places(start, N1, N2, N3, P2, P3, SLAB)
            re = _scaled(tl.load(first + at, mask=there, other=0.0), first_scale)
            im = _scaled(tl.load(second + at, mask=_if_left(at, there, left, N1 * N2 * N3), other=0.0), second_scale)
            cos, sin = _block(tables, start, slab, P1, SLAB)
            real, imaginary = _times(re, im, cos, sin, real, imaginary, SPLIT, EXACT)
        real, imaginary = _finished(real, imaginary, tables, slab, P1, P2, P3, SLAB, SPLIT)
        slot = tl.load(slots + (slab * P2 + tl.arange(0, SLAB * P2))[:, None] * P3 + tl.arange(0, P3)[None, :])
        tl.store(kept + slot, real, mask=slot >= 0)
        tl.store(kept + count + slot, imaginary, mask=slot >= 0)
    tl.store(kept + count - 1, first_scale)
    tl.store(kept + 2 * count - 1, second_scale)


@triton.jit
def _gathered(held, coefficients, source, number, at, there, step, depth, count, factor):
    """The sum over links of coefficient times held bin times factor, at each target."""
    real = at.to(tl.float32) * 0.0
    imaginary = real
    for level in range(depth):
        origin = tl.load(source + level * step + at, mask=there, other=-1)
        linked = origin >= 0
        scale = factor * tl.load(
            coefficients + tl.load(number + level * step + at, mask=linked, other=0), mask=linked, other=0.0
        )
        real += scale * tl.load(held + origin, mask=linked, other=0.0)
        imaginary += scale * tl.load(held + count + origin, mask=linked, other=0.0)
    return real, imaginary


@triton.jit
def release(
    held, coefficients, y, source, number, tables, tokens, set_stride, token_stride, count, n, depth, factor,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr,
    SLAB: tl.constexpr, SPLIT: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Carry held bins through links, transform them back, and write or add pairs of tokens. Grid: (pairs, sets)."""
    pair, group = tl.program_id(0), tl.program_id(1).to(tl.int64)
    left = tokens - 2 * pair - 1
    kept = held + (group * tl.num_programs(0) + pair) * 2 * count
    coefficients += group * n
    first_scale, second_scale = tl.load(kept + count - 1), tl.load(kept + 2 * count - 1)
    first = y + group * set_stride + (2 * pair).to(tl.int64) * token_stride
    second = first + token_stride
    step: tl.constexpr = N1 * N2 * N3
    for slab in range(0, P1, SLAB):
        real, imaginary = tl.zeros((P2 * P3, SLAB), tl.float32), tl.zeros((P2 * P3, SLAB), tl.float32)
        for start in range(0, P1, SLAB):
            at, there = _places(start, N1, N2, N3, P2, P3, SLAB)
            re, im = _gathered(kept, coefficients, source, number, at, there, step, depth, count, factor)
            cos, sin = _block(tables, start, slab, P1, SLAB)
            real, imaginary = _times(re, im, cos, sin, real, imaginary, SPLIT, False)
        real, imaginary = _finished(real, imaginary, tables, slab, P1, P2, P3, SLAB, SPLIT)
        real = tl.permute(tl.reshape(real, (SLAB, P2, P3)), (2, 1, 0)) * first_scale
        imaginary = tl.permute(tl.reshape(imaginary, (SLAB, P2, P3)), (2, 1, 0)) * second_scale
        to, there = _targets(slab, N1, N2, N3, P2, P3, SLAB)
        other = _if_left(to, there, left, N1 * N2 * N3)
        if ADD:
            real += tl.load(first + to, mask=there, other=0.0).to(tl.float32)
            imaginary += tl.load(second + to, mask=other, other=0.0).to(tl.float32)
        tl.store(first + to, real.to(y.dtype.element_ty), mask=there)
        tl.store(second + to, imaginary.to(y.dtype.element_ty), mask=other)


@triton.jit
def _apart(held, count, slot, mirrored, there):
    """The bins of both tokens of a pair: from Z at v and Z' at -v, (Z + conj Z') / 2 and (Z - conj Z') / 2i."""
    re, im = tl.load(held + slot, mask=there, other=0.0), tl.load(held + count + slot, mask=there, other=0.0)
    back = tl.load(held + mirrored, mask=there, other=0.0)
    back_im = tl.load(held + count + mirrored, mask=there, other=0.0)
    first, second = 0.5 * tl.load(held + count - 1), 0.5 * tl.load(held + 2 * count - 1)
    return (re + back) * first, (im - back_im) * first, (im + back_im) * second, (back - re) * second


@triton.jit
def gradient(
    grad, held, partial, rows, mirrored_rows, columns, mirrored_columns, pairs, grad_count, count, n, share, factor,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum over `share` pairs of tokens of re(G X) at each entry. Grid: (blocks of n, shares, sets)."""
    entry = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part, group = tl.program_id(1), tl.program_id(2).to(tl.int64)
    there = entry < n
    u, minus_u = tl.load(rows + entry, mask=there, other=0), tl.load(mirrored_rows + entry, mask=there, other=0)
    v, minus_v = tl.load(columns + entry, mask=there, other=0), tl.load(mirrored_columns + entry, mask=there, other=0)
    total = tl.zeros((BLOCK,), tl.float32)
    for pair in range(part * share, tl.minimum(pairs, (part + 1) * share)):
        row = group * pairs + pair
        g1, g1_im, g2, g2_im = _apart(grad + row * 2 * grad_count, grad_count, u, minus_u, there)
        x1, x1_im, x2, x2_im = _apart(held + row * 2 * count, count, v, minus_v, there)
        total += (g1 * x1 - g1_im * x1_im) + (g2 * x2 - g2_im * x2_im)
    tl.store(partial + (group * tl.num_programs(1) + part) * n + entry, total * factor, mask=there)

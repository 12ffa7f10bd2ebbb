"""The kernels. Two real tokens are one complex one: the first its real part, the second its imaginary part.

Shapes: x [sets, tokens, length]; held [sets, pairs, 2, count] float32, the real and imaginary parts of the bins that
are kept, and last the scale of a token. A program transforms one pair.

SPLIT products take each float32 factor as two bfloat16 numbers, whose three larger products are summed in float32,
right to 2^-15; EXACT says that tokens are bfloat16, which need no second. Other products are tf32x3, right to float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # there, products of bfloat16 would be those of their bits


@triton.jit
def _dot(a, b):
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32))
    else:
        return tl.dot(a, b)


@triton.jit
def _product(a, b, SPLIT: tl.constexpr):
    if SPLIT:
        high_a, high_b = a.to(tl.bfloat16), b.to(tl.bfloat16)
        low_a, low_b = (a - high_a.to(tl.float32)).to(tl.bfloat16), (b - high_b.to(tl.float32)).to(tl.bfloat16)
        return _dot(high_a, high_b) + (_dot(high_a, low_b) + _dot(low_a, high_b))
    else:
        return tl.dot(a, b, input_precision="tf32x3")


@triton.jit
def _square(tables, P: tl.constexpr):
    side = tl.arange(0, P)
    at = side[:, None] * P + side[None, :]
    return tl.load(tables + at), tl.load(tables + P * P + at)


@triton.jit
def _times(re, im, tables, P: tl.constexpr, SPLIT: tl.constexpr):
    """Rows [.., P] times a factor."""
    cos, sin = _square(tables, P)
    real = _product(re, cos, SPLIT) - _product(im, sin, SPLIT)
    return real, _product(re, sin, SPLIT) + _product(im, cos, SPLIT)


@triton.jit
def _turned(re, im, cos, sin):
    return re * cos - im * sin, re * sin + im * cos


@triton.jit
def _first_turn(re, im, tables, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr):
    """Twiddles of [P3, P1, P2]."""
    at = tl.arange(0, P1)[:, None] * P2 + tl.arange(0, P2)[None, :]
    cos, sin = tl.load(tables + at), tl.load(tables + P1 * P2 + at)
    return _turned(re, im, cos[None, :, :], sin[None, :, :])


@triton.jit
def _second_turn(re, im, tables, ROWS: tl.constexpr, P3: tl.constexpr):
    """Twiddles of [P1 * P2, P3]."""
    at = tl.arange(0, ROWS)[:, None] * P3 + tl.arange(0, P3)[None, :]
    return _turned(re, im, tl.load(tables + at), tl.load(tables + ROWS * P3 + at))


@triton.jit
def _places(N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr):
    """Where the values of a token stand in memory: [P2 * P3, P1]."""
    rows, first = tl.arange(0, P2 * P3)[:, None], tl.arange(0, P1)[None, :]
    second, third = rows // P3, rows % P3
    return first * (N2 * N3) + second * N3 + third, (first < N1) & (second < N2) & (third < N3)


@triton.jit
def _of_second(at, there, left, LENGTH: tl.constexpr):
    """The places of the second token of a pair, if so many tokens are left that there is one."""
    return there & (at < (left - 1) * LENGTH)


@triton.jit
def _token_times(x, factor, SPLIT: tl.constexpr, EXACT: tl.constexpr):
    if EXACT:
        high = factor.to(tl.bfloat16)
        return _dot(x, high) + _dot(x, (factor - high.to(tl.float32)).to(tl.bfloat16))
    else:
        return _product(x.to(tl.float32), factor, SPLIT)


@triton.jit
def _scale(x):
    """The power of two below the largest value of a token, 1 for zeros; not a number if a value is not finite."""
    x = x.to(tl.float32)
    largest = tl.max(tl.max(tl.abs(x), axis=1), axis=0)
    power = (largest.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    return tl.where(power > 0.0, power, 1.0) + tl.sum(tl.sum(x * 0.0, axis=1), axis=0)


@triton.jit
def _scaled(x, scale):
    """A token of numbers below 2, zeros if it is not finite: so it leaves the other of its pair alone."""
    return tl.where(scale == scale, x.to(tl.float32) / scale, 0.0).to(x.dtype)


@triton.jit
def hold(
    x, held, slots, tables, tokens, set_stride, token_stride, count,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr,
    SPLIT: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Transform pairs of tokens, and keep the bins that have a slot. Grid: (pairs, sets)."""
    pair, group = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at, there = _places(N1, N2, N3, P1, P2, P3)
    first = x + group * set_stride + (2 * pair).to(tl.int64) * token_stride
    re = tl.load(first + at, mask=there, other=0.0)
    im = tl.load(first + token_stride + at, mask=_of_second(at, there, tokens - 2 * pair, N1 * N2 * N3), other=0.0)
    first_scale, second_scale = _scale(re), _scale(im)
    re, im = _scaled(re, first_scale), _scaled(im, second_scale)
    cos, sin = _square(tables, P1)
    real = _token_times(re, cos, SPLIT, EXACT) - _token_times(im, sin, SPLIT, EXACT)
    imaginary = _token_times(re, sin, SPLIT, EXACT) + _token_times(im, cos, SPLIT, EXACT)
    tables += 2 * P1 * P1
    turns = tables + 2 * P2 * P2 + 2 * P3 * P3
    real = tl.permute(tl.reshape(real, (P2, P3, P1)), (1, 2, 0))  # [P3, P1, P2]
    imaginary = tl.permute(tl.reshape(imaginary, (P2, P3, P1)), (1, 2, 0))
    real, imaginary = _first_turn(real, imaginary, turns, P1, P2, P3)
    real, imaginary = tl.reshape(real, (P3 * P1, P2)), tl.reshape(imaginary, (P3 * P1, P2))
    real, imaginary = _times(real, imaginary, tables, P2, SPLIT)
    real = tl.reshape(tl.permute(tl.reshape(real, (P3, P1, P2)), (1, 2, 0)), (P1 * P2, P3))
    imaginary = tl.reshape(tl.permute(tl.reshape(imaginary, (P3, P1, P2)), (1, 2, 0)), (P1 * P2, P3))
    if N3 > 1:
        real, imaginary = _second_turn(real, imaginary, turns + 2 * P1 * P2, P1 * P2, P3)
        real, imaginary = _times(real, imaginary, tables + 2 * P2 * P2, P3, SPLIT)
    slot = tl.load(slots + tl.arange(0, P1 * P2)[:, None] * P3 + tl.arange(0, P3)[None, :])
    kept = held + (group * tl.num_programs(0) + pair) * 2 * count
    tl.store(kept + slot, real, mask=slot >= 0)
    tl.store(kept + count + slot, imaginary, mask=slot >= 0)
    tl.store(kept + count - 1, first_scale)
    tl.store(kept + 2 * count - 1, second_scale)


@triton.jit
def _gathered(held, coefficients, source, number, at, there, step, depth, count):
    """The sum over links of coefficient times held bin, at each target."""
    real = at.to(tl.float32) * 0.0
    imaginary = real
    for level in range(depth):
        origin = tl.load(source + level * step + at, mask=there, other=-1)
        linked = origin >= 0
        scale = tl.load(
            coefficients + tl.load(number + level * step + at, mask=linked, other=0), mask=linked, other=0.0
        )
        real += scale * tl.load(held + origin, mask=linked, other=0.0)
        imaginary += scale * tl.load(held + count + origin, mask=linked, other=0.0)
    return real, imaginary


@triton.jit
def release(
    held, coefficients, y, source, number, tables, tokens, set_stride, token_stride, count, n, depth, factor,
    N1: tl.constexpr, N2: tl.constexpr, N3: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, P3: tl.constexpr,
    SPLIT: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """Carry held bins through links, transform them back, and write or add pairs of tokens. Grid: (pairs, sets)."""
    pair, group = tl.program_id(0), tl.program_id(1).to(tl.int64)
    values = tl.arange(0, P1 * P2)[:, None] * P3 + tl.arange(0, P3)[None, :]
    kept = held + (group * tl.num_programs(0) + pair) * 2 * count
    step: tl.constexpr = P1 * P2 * P3
    real, imaginary = _gathered(kept, coefficients + group * n, source, number, values, values >= 0, step, depth, count)
    real, imaginary = real * factor, imaginary * factor
    factor_tables = tables + 2 * P1 * P1
    turns = factor_tables + 2 * P2 * P2 + 2 * P3 * P3
    if N3 > 1:
        real, imaginary = _times(real, imaginary, factor_tables + 2 * P2 * P2, P3, SPLIT)
        real, imaginary = _second_turn(real, imaginary, turns + 2 * P1 * P2, P1 * P2, P3)
    real = tl.reshape(tl.permute(tl.reshape(real, (P1, P2, P3)), (2, 0, 1)), (P3 * P1, P2))
    imaginary = tl.reshape(tl.permute(tl.reshape(imaginary, (P1, P2, P3)), (2, 0, 1)), (P3 * P1, P2))
    real, imaginary = _times(real, imaginary, factor_tables, P2, SPLIT)
    real, imaginary = tl.reshape(real, (P3, P1, P2)), tl.reshape(imaginary, (P3, P1, P2))
    real, imaginary = _first_turn(real, imaginary, turns, P1, P2, P3)
    real = tl.reshape(tl.permute(real, (2, 0, 1)), (P2 * P3, P1))
    imaginary = tl.reshape(tl.permute(imaginary, (2, 0, 1)), (P2 * P3, P1))
    re, im = _times(real, imaginary, tables, P1, SPLIT)
    re, im = re * tl.load(kept + count - 1), im * tl.load(kept + 2 * count - 1)
    at, there = _places(N1, N2, N3, P1, P2, P3)
    other = _of_second(at, there, tokens - 2 * pair, N1 * N2 * N3)
    target = y + group * set_stride + (2 * pair).to(tl.int64) * token_stride
    if ADD:
        re += tl.load(target + at, mask=there, other=0.0).to(tl.float32)
        im += tl.load(target + token_stride + at, mask=other, other=0.0).to(tl.float32)
    tl.store(target + at, re.to(y.dtype.element_ty), mask=there)
    tl.store(target + token_stride + at, im.to(y.dtype.element_ty), mask=other)


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

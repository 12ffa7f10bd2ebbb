"""Which spectral entries (u, v) are trained. They are frozen, drawn from a seed, and shared by all layers of one shape.

Uniform entries are those of stock PEFT: the first n elements of `torch.randperm(out * in)`. Its shuffle is
Fisher-Yates, driven by the raw 32-bit stream of a Mersenne twister: in step i, element i changes places with element
i + raw[i] % (total - i). The first n elements are settled after n steps, and a dictionary holds the few elements that
have moved, so n entries cost O(n) time and memory instead of O(out * in). From 2**32 // 20 elements on, randperm
shuffles inside out with 64-bit draws instead: there element i takes the value at z = raw[i] % (i + 1), which gets i. A
place below n is then settled by the last draw that hits it, so the stream is read in chunks, in O(n) memory.
"""

from __future__ import annotations

import numpy as np
import torch

from fourierft.errors import ConfigError, ShapeError
from fourierft.spectral.eager import real_tensors

_INSIDE_OUT_TOTAL = (2**32 - 1) // 20  # from here on, torch.randperm uses its 64-bit, inside-out shuffle
MOST_CENTER, LEAST_WIDTH, MOST_WIDTH = (
    1e6,
    1e-3,
    1e6,
)  # of a band, in entries: beyond, float64 cannot tell entries apart
LEAST_SEED, MOST_SEED = -(2**63), 2**64 - 1  # what `torch.Generator.manual_seed` takes
_CHUNK = 1 << 22  # elements in flight while a long stream or a large probability map is read


@real_tensors()
def uniform_entries(out_features: int, in_features: int, n_frequency: int, seed: int) -> torch.Tensor:
    """Entries drawn uniformly without replacement, bit for bit those of stock PEFT.

    Semantics: `torch.randperm(out * in, generator=torch.Generator().manual_seed(seed))[:n]`, split into row and column.
    For one seed, the entries of a smaller n are a prefix of those of a larger one.

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        n_frequency: number of entries, 1 to out * in.
        seed: what `torch.Generator.manual_seed` takes (PEFT: `random_loc_seed`).

    Returns: int64 [2, n] on the CPU, rows u above columns v.

    Raises: ShapeError, if n_frequency is not in 1..out * in. ConfigError, if the seed has more than 64 bits.
    """
    total = _checked_total(out_features, in_features, n_frequency)
    _check_seed(seed)
    if total >= _INSIDE_OUT_TOTAL:
        flat = _inside_out_prefix(total, n_frequency, seed)
    elif n_frequency > total // 8:
        flat = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:n_frequency]
    else:
        flat = _fisher_yates_prefix(total, n_frequency, seed)
    return torch.stack([flat // in_features, flat % in_features])


@real_tensors()
def bandpass_entries(
    out_features: int, in_features: int, n_frequency: int, seed: int, center: float, width: float
) -> torch.Tensor:
    """Entries drawn without replacement with a bias to one band of frequencies (paper Eq. 5).

    Semantics: p(u, v) is proportional to exp(-((D^2 - center^2) / (D * width))^2), D the distance of the entry from the
    centre of the shifted spectrum, which is the length of its signed frequency. The draw is an exponential race
    (Gumbel top-n on log p), so no probability underflows, and a smaller n is a prefix of a larger one.

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        n_frequency: number of entries.
        seed: of the draw.
        center: favoured distance fc, in entries; 0 favours low frequencies.
        width: bandwidth W of the paper, in entries.

    Returns: int64 [2, n] on the CPU, in order of the draw, indices of the unshifted spectrum.

    Raises:
        ShapeError, if there are not n_frequency entries of positive probability.
        ConfigError, if seed, center or width is out of range.
    """
    total = _checked_total(out_features, in_features, n_frequency)
    _check_seed(seed)
    if not (0 <= center <= MOST_CENTER and LEAST_WIDTH <= width <= MOST_WIDTH):
        raise ConfigError(
            f"center={center}, width={width} is not a valid frequency band; use 0 <= "
            f"center <= {MOST_CENTER:g} and {LEAST_WIDTH:g} <= width <= {MOST_WIDTH:g}"
        )
    if center > 0 and n_frequency == total:
        raise ShapeError(
            f"n_frequency={n_frequency} exceeds the {total - 1} entries that a band around {center} gives a positive "
            f"probability; use n_frequency <= {total - 1}"
        )
    generator = torch.Generator().manual_seed(seed)
    rows, columns = _signed_frequencies(out_features), _signed_frequencies(in_features)
    best = torch.empty(0, dtype=torch.float64)
    flat = torch.empty(0, dtype=torch.int64)
    step = max(1, _CHUNK // in_features)
    for start in range(0, out_features, step):
        log_p = band_log_probability(rows[start : start + step], columns, center, width).flatten()
        uniform = torch.rand(log_p.shape, generator=generator, dtype=torch.float64)
        best = torch.cat([best, log_p - torch.log(-torch.log(uniform))])
        flat = torch.cat([flat, torch.arange(start * in_features, start * in_features + log_p.numel())])
        best, kept = best.topk(min(n_frequency, best.numel()))
        flat = flat[kept]
    return torch.stack([flat // in_features, flat % in_features])


def band_log_probability(rows: torch.Tensor, columns: torch.Tensor, center: float, width: float) -> torch.Tensor:
    """Logarithm of paper Eq. 5, unnormalised, for signed frequencies [r] and [c]: float64 [r, c]."""
    squared = rows.double()[:, None] ** 2 + columns.double()[None, :] ** 2  # D^2
    if center == 0:
        return -squared / width**2
    return -(((squared - center**2) / (squared.sqrt() * width)) ** 2)


def _signed_frequencies(length: int) -> torch.Tensor:
    index = torch.arange(length)
    return torch.where(index < (length + 1) // 2, index, index - length)


def _checked_total(out_features: int, in_features: int, n_frequency: int) -> int:
    if out_features < 1 or in_features < 1:
        raise ShapeError(f"a {out_features} x {in_features} weight has no entries; use sizes of at least 1")
    total = out_features * in_features
    if n_frequency < 1:
        raise ShapeError(f"n_frequency={n_frequency} is not positive; use 1 <= n_frequency <= {total}")
    if n_frequency > total:
        raise ShapeError(
            f"n_frequency={n_frequency} exceeds the {total} entries of a {out_features} x {in_features} weight; "
            f"use n_frequency <= {total}"
        )
    return total


def _check_seed(seed: int) -> None:
    if not LEAST_SEED <= seed <= MOST_SEED:
        raise ConfigError(f"the seed has {seed.bit_length()} bits; use an integer of at most 64, such as 777")


def _raw_stream(seed: int) -> np.random.RandomState:
    """numpy's legacy generator: its 32-bit stream is frozen and, for a 32-bit seed, that of torch's CPU generator."""
    return np.random.RandomState(seed & 0xFFFFFFFF)


def _draw(stream: np.random.RandomState, count: int) -> np.ndarray:
    return np.frombuffer(stream.bytes(4 * count), dtype="<u4")


def _fisher_yates_prefix(total: int, n_frequency: int, seed: int) -> torch.Tensor:
    raw = _draw(_raw_stream(seed), n_frequency).astype(np.int64)
    steps = np.arange(n_frequency, dtype=np.int64)
    targets = (steps + raw % (total - steps)).tolist()
    moved: dict[int, int] = {}
    prefix = []
    for i, target in enumerate(targets):
        prefix.append(moved.get(target, target))
        moved[target] = moved.pop(i, i)
    return torch.tensor(prefix, dtype=torch.int64)


def _inside_out_prefix(total: int, n_frequency: int, seed: int) -> torch.Tensor:
    stream = _raw_stream(seed)
    prefix = np.zeros(n_frequency, dtype=np.int64)
    for start in range(0, total, _CHUNK):
        steps = np.arange(start, min(start + _CHUNK, total), dtype=np.uint64)
        high, low = _draw(stream, 2 * len(steps)).astype(np.uint64).reshape(-1, 2).T
        targets = ((high << np.uint64(32)) | low) % (steps + np.uint64(1))
        hits = np.flatnonzero(targets < n_frequency) if start >= n_frequency else range(len(steps))
        for i in hits:
            step, target = int(steps[i]), int(targets[i])
            if step < n_frequency:
                prefix[step] = prefix[target]
            if target < n_frequency:
                prefix[target] = step
    return torch.from_numpy(prefix)

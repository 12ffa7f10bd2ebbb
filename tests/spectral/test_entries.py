"""Uniform entries are torch.randperm's; band-pass entries follow the paper's Eq. 5."""

from __future__ import annotations

import functools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fourierft import bandpass_entries, uniform_entries
from fourierft.errors import ConfigError, ShapeError
from fourierft.spectral import entries as module

SEEDS = [0, 1, 777, 2024, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63 - 1, 2**64 - 1, -1, -777, -(2**63)]


def randperm_entries(out_features: int, in_features: int, n: int, seed: int) -> torch.Tensor:
    flat = torch.randperm(out_features * in_features, generator=torch.Generator().manual_seed(seed))[:n]
    return torch.stack([flat // in_features, flat % in_features])


@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_entries_are_randperms_for_every_kind_of_seed(seed: int) -> None:
    assert torch.equal(uniform_entries(96, 130, 700, seed), randperm_entries(96, 130, 700, seed))


@pytest.mark.parametrize(
    ("out_features", "in_features"), [(1, 1), (1, 2), (1, 97), (97, 1), (7, 13), (64, 64), (33, 96), (768, 3072)]
)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.124, 0.126, 0.5, 1.0])
def test_uniform_entries_are_randperms_for_every_share(out_features: int, in_features: int, share: float) -> None:
    n = max(1, int(share * out_features * in_features))
    assert torch.equal(
        uniform_entries(out_features, in_features, n, 777), randperm_entries(out_features, in_features, n, 777)
    )


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), out_features=st.integers(1, 90), in_features=st.integers(1, 90))
def test_uniform_entries_are_randperms(data: st.DataObject, out_features: int, in_features: int) -> None:
    n = data.draw(st.integers(1, out_features * in_features))
    seed = data.draw(st.integers(-(2**63), 2**64 - 1))
    found = uniform_entries(out_features, in_features, n, seed)
    assert found.dtype == torch.int64
    assert torch.equal(found, randperm_entries(out_features, in_features, n, seed))


def test_fewer_uniform_entries_are_a_prefix_of_more() -> None:
    most = uniform_entries(50, 60, 3000, 9)
    assert all(torch.equal(uniform_entries(50, 60, n, 9), most[:, :n]) for n in (1, 2, 100, 374, 375, 376, 2999))


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    uniform_entries(50, 60, 10, 1)
    bandpass_entries(50, 60, 10, 1, center=3.0, width=2.0)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)


def test_entries_of_a_large_layer_take_memory_by_their_number_alone() -> None:
    uniform_entries(64, 64, 100, 1)
    tracemalloc.start()
    found = uniform_entries(4096, 4096, 1000, 777)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (2, 1000)
    assert peak < 2**20  # the whole permutation is 128 MiB


def inside_out_shuffle(total: int, seed: int) -> list[int]:
    """The whole shuffle in plain Python, its 64-bit draws from a generator of numpy's own seeding."""
    stream = np.random.MT19937()
    stream._legacy_seeding(seed & 0xFFFFFFFF)
    values = list(range(total))
    for i in range(total):
        high, low = int(stream.random_raw()), int(stream.random_raw())
        z = ((high << 32) | low) % (i + 1)
        values[i] = values[z]
        values[z] = i
    return values


@pytest.mark.parametrize("chunk", [4, 64, 1 << 22])
@pytest.mark.parametrize(("total", "n"), [(1, 1), (2, 2), (50, 1), (50, 7), (50, 50), (1000, 10), (1000, 999)])
def test_inside_out_prefix_is_the_start_of_the_whole_shuffle(
    monkeypatch: pytest.MonkeyPatch, total: int, n: int, chunk: int
) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    for seed in (0, 777, 2**40 + 3):
        assert module._inside_out_prefix(total, n, seed).tolist() == inside_out_shuffle(total, seed)[:n]


def test_a_weight_beyond_the_32_bit_shuffle_has_randperms_entries() -> None:
    # torch.randperm(214_748_400, generator=torch.Generator().manual_seed(5))[:7], which takes half a minute and 2 GB
    expected = torch.tensor([91252029, 200188117, 89143689, 193777243, 63032797, 86211230, 118982567])
    rows, columns = uniform_entries(214_748_400 // 1200, 1200, 7, 5)
    assert torch.equal(rows * 1200 + columns, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((48, 96, 5000), "n_frequency=5000 exceeds the 4608 entries of a 48 x 96 weight; use n_frequency <= 4608"),
        ((48, 96, 0), "n_frequency=0 is not positive; use 1 <= n_frequency <= 4608"),
        ((48, 96, -3), "n_frequency=-3 is not positive; use 1 <= n_frequency <= 4608"),
        ((0, 96, 1), "a 0 x 96 weight has no entries; use sizes of at least 1"),
    ],
)
def test_a_count_that_does_not_fit_is_named(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ShapeError) as uniform:
        uniform_entries(*arguments, seed=1)
    with pytest.raises(ShapeError) as bandpass:
        bandpass_entries(*arguments, seed=1, center=0.0, width=10.0)
    assert str(uniform.value) == str(bandpass.value) == message


# Band-pass entries


def paper_probabilities(out_features: int, in_features: int, center: float, width: float) -> np.ndarray:
    """Eq. 5 entry by entry, with the spectrum shifted as the paper draws it, then shifted back."""
    weights = np.zeros((out_features, in_features))
    for i in range(out_features):
        for j in range(in_features):
            distance = math.hypot(i - out_features // 2, j - in_features // 2)
            if distance > 0:
                weights[i, j] = math.exp(-(((distance**2 - center**2) / (distance * width)) ** 2))
            else:
                weights[i, j] = 1.0 if center == 0 else 0.0  # the limits of Eq. 5
    return np.fft.ifftshift(weights / weights.sum())


@pytest.mark.parametrize(("shape", "center", "width"), [((6, 8), 2.0, 3.0), ((7, 5), 0.0, 2.5), ((1, 12), 3.0, 2.0)])
def test_the_first_entry_is_drawn_with_the_papers_probabilities(
    shape: tuple[int, int], center: float, width: float
) -> None:
    draws = 4000
    counts = np.zeros(shape)
    for seed in range(draws):
        row, column = bandpass_entries(*shape, 1, seed, center, width)[:, 0].tolist()
        counts[row, column] += 1
    expected = draws * paper_probabilities(*shape, center, width)
    common = expected >= 5
    statistic = (((counts - expected) ** 2)[common] / expected[common]).sum()
    freedom = common.sum() - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)  # four standard deviations of chi-square
    rare = expected[~common].sum()
    assert abs(counts[~common].sum() - rare) <= 4 * math.sqrt(rare) + 1


def test_the_second_entry_is_drawn_from_what_the_first_left() -> None:
    probabilities = paper_probabilities(3, 4, 0.0, 2.0).ravel()
    expected = np.zeros(12)  # of the second draw: sum over the first of p(first) p(second) / (1 - p(first))
    for first, chance in enumerate(probabilities):
        left = probabilities.copy()
        left[first] = 0.0
        expected += chance * left / left.sum()
    draws = 4000
    seconds = [bandpass_entries(3, 4, 2, seed, 0.0, 2.0)[:, 1].tolist() for seed in range(draws)]
    counts = np.bincount([4 * row + column for row, column in seconds], minlength=12)
    statistic = ((counts - draws * expected) ** 2 / (draws * expected)).sum()
    assert statistic < 11 + 4 * math.sqrt(22)


def test_bandpass_entries_repeat_for_a_seed_and_change_with_it() -> None:
    first = bandpass_entries(40, 50, 200, 3, center=8.0, width=4.0)
    assert torch.equal(first, bandpass_entries(40, 50, 200, 3, center=8.0, width=4.0))
    assert not torch.equal(first, bandpass_entries(40, 50, 200, 4, center=8.0, width=4.0))


def test_bandpass_entries_are_all_different_and_inside() -> None:
    for out_features, in_features, n in [(1, 30, 30), (30, 1, 7), (20, 31, 620), (33, 96, 500)]:
        rows, columns = bandpass_entries(out_features, in_features, n, 1, center=0.0, width=3.0)
        assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == n
        assert rows.min() >= 0
        assert rows.max() < out_features
        assert columns.min() >= 0
        assert columns.max() < in_features


def test_fewer_bandpass_entries_are_a_prefix_of_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 300)  # several chunks, as a large weight has
    most = bandpass_entries(30, 40, 900, 9, center=5.0, width=20.0)
    assert all(torch.equal(bandpass_entries(30, 40, n, 9, 5.0, 20.0), most[:, :n]) for n in (1, 2, 300, 899))


def test_reading_in_chunks_changes_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bandpass_entries(30, 40, 100, 9, center=5.0, width=20.0)
    monkeypatch.setattr(module, "_CHUNK", 81)
    assert torch.equal(bandpass_entries(30, 40, 100, 9, center=5.0, width=20.0), whole)


def test_entries_crowd_around_the_centre_of_the_band() -> None:
    def distances(center: float) -> torch.Tensor:
        rows, columns = bandpass_entries(96, 64, 100, 1, center, width=6.0)
        rows, columns = torch.where(rows > 47, rows - 96, rows), torch.where(columns > 31, columns - 64, columns)
        return torch.hypot(rows.double(), columns.double())

    assert distances(0.0).mean() < 8  # low frequencies; uniform entries lie at 30 on average
    assert abs(distances(20.0).mean() - 20) < 2
    assert distances(20.0).std() < 5


def test_the_constant_is_left_out_of_a_band_above_it() -> None:
    entries = bandpass_entries(6, 7, 41, 1, center=2.0, width=1.0)
    assert not (entries == 0).all(0).any()
    with pytest.raises(ShapeError, match="use n_frequency <= 41"):
        bandpass_entries(6, 7, 42, 1, center=2.0, width=1.0)
    assert (bandpass_entries(6, 7, 42, 1, center=0.0, width=1.0) == 0).all(0).any()


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64, 10**400])
def test_a_seed_of_more_than_64_bits_is_refused(seed: int) -> None:
    for draw in (uniform_entries, functools.partial(bandpass_entries, center=2.0, width=1.0)):
        with pytest.raises(ConfigError, match="bits; use an integer of at most 64, such as 777"):
            draw(6, 7, 3, seed)


@pytest.mark.parametrize(
    ("center", "width"),
    [
        (-1.0, 3.0),
        (1.0, 0.0),
        (1.0, -2.0),
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.inf, 1.0),
        (1e308, 1.0),
        (1.0, 1e-200),
    ],
)
def test_a_band_that_is_none_is_refused(center: float, width: float) -> None:
    with pytest.raises(ConfigError, match=r"use 0 <= center <= 1e\+06 and 0\.001 <= width <= 1e\+06"):
        bandpass_entries(6, 7, 3, 1, center, width)

"""Radices, positions and links are those of a discrete Fourier transform, checked bin by bin."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from fourierft import uniform_basis
from fourierft.spectral.compiled.plan import RADICES, Plan, entries_of, links_of, plan_of, radices_of

LENGTHS = [1, 2, 3, 4, 8, 12, 13, 17, 60, 63, 74, 77, 96, 128, 169, 289, 509, 576, 768, 799, 4304]


def transform_in_stages(signal: np.ndarray, radices: Sequence[int]) -> np.ndarray:
    """The positive-exponent transform as kernel.c takes its stages, bins left where they fall."""
    if not radices:
        return signal
    radix, rest = radices[0], len(signal) // radices[0]
    parts = signal.reshape(radix, rest)
    roots = np.exp(2j * np.pi * np.outer(np.arange(radix), np.arange(radix)) / radix)
    turned = roots @ parts * np.exp(2j * np.pi * np.outer(np.arange(radix), np.arange(rest)) / len(signal))
    return np.concatenate([transform_in_stages(row, radices[1:]) for row in turned])


@pytest.mark.parametrize("length", LENGTHS)
def test_bins_stand_where_the_plan_says(length: int) -> None:
    plan = plan_of(length)
    signal = np.random.default_rng(0).standard_normal(length)
    radices = radices_of(length)
    assert plan is not None
    assert radices is not None
    found = transform_in_stages(signal.astype(complex), radices)[plan.positions]
    np.testing.assert_allclose(found, np.conj(np.fft.fft(signal)), atol=1e-9)


@pytest.mark.parametrize("length", LENGTHS)
def test_radices_multiply_to_the_length(length: int) -> None:
    radices = radices_of(length)
    assert radices is not None
    assert np.prod(radices, initial=1) == length
    assert set(radices) <= set(RADICES)


@pytest.mark.parametrize("length", [521, 8 * 521, 509 * 8191, 50257, 151936])
def test_a_length_with_a_large_prime_has_no_plan(length: int) -> None:
    assert radices_of(length) is None
    assert plan_of(length) is None


@pytest.mark.parametrize(
    "length",
    # Hidden and MLP widths of Qwen2.5, LLaMA-2, Falcon, ModernBERT, Baichuan-2, SigLIP, Mamba-2, Qwen3
    [896, 4864, 11008, 18944, 22016, 4544, 4672, 2624, 13696, 4304, 3352, 9728, 17408, 10944, 3420, 29568],
)
def test_widths_of_models_have_plans(length: int) -> None:
    assert radices_of(length) is not None


def test_links_join_every_entry_and_its_mirror_image() -> None:
    basis = uniform_basis(12, 15, 40, 3)
    outer, inner = plan_of(12), plan_of(15)
    assert outer is not None
    assert inner is not None
    rows, columns = basis.entries.numpy()
    links = links_of(inner, outer, columns, rows)
    target, first, source, mirror, index = links.arrays
    added = {int(p): bin for bin, p in enumerate(outer.positions)}
    read = {int(p): bin for bin, p in enumerate(inner.positions)}
    found = set()
    for place, (begin, end) in enumerate(itertools.pairwise(first)):
        for link in range(begin, end):
            found.add((added[target[place]], read[source[link]], int(index[link])))
            assert read[mirror[link]] == -read[source[link]] % 15
    expected = {(u, v, k) for k, (u, v) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))}
    assert found == expected | {(-u % 12, -v % 15, k) for u, v, k in expected}
    assert (np.diff(target) > 0).all()


def test_entries_hold_both_images_of_both_sides() -> None:
    basis = uniform_basis(12, 15, 40, 3)
    outer, inner = plan_of(12), plan_of(15)
    assert outer is not None
    assert inner is not None
    sides = dict(zip(("in", "out", "index"), entries_of(basis, inner, outer).arrays, strict=True))
    for k, index in enumerate(sides["index"]):
        u, v = basis.entries[:, index].tolist()
        assert sides["out"][k].tolist() == [outer.positions[u], outer.positions[-u % 12]]
        assert sides["in"][k].tolist() == [inner.positions[v], inner.positions[-v % 15]]


def test_a_plan_keeps_what_it_points_to() -> None:
    plan = plan_of(24)
    assert isinstance(plan, Plan)
    assert plan.length == 24
    assert plan.radices == plan.arrays[0].ctypes.data

"""A length in small factors: the tables make its transform, whatever multiplies the matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fourierft.spectral import SpectralBasis, uniform_entries
from fourierft.spectral.triton.links import holding_of, links_of, pairs_of
from fourierft.spectral.triton.plan import SLAB, Plan, plan_of

LENGTHS = [1, 2, 9, 10, 43, 47, 64, 96, 576, 768, 896, 1536, 2304, 3072, 4096, 4864, 8960, 11008, 29568]
WIDTHS = [384, 576, 768, 896, 960, 1024, 1152, 1280, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 8192]
INNER = [2560, 4864, 5632, 8960, 9728, 10240, 11008, 13824, 14336, 17408, 18944, 25600, 27648, 28672, 29568, 53248]
CPU = torch.device("cpu")


def made(length: int) -> Plan:
    plan = plan_of(length)
    assert plan is not None
    return plan


def transformed(z: Tensor, plan: Plan) -> Tensor:
    """z [length] by the tables of a plan: three products and two twiddles, as padded values."""
    (n1, n2, n3), (p1, p2, p3) = plan.factors, plan.padded
    sizes = [p1 * p1, p2 * p2, p3 * p3, p1 * p2, p1 * p2 * p3]
    parts = plan.tables().double().split([2 * size for size in sizes])
    shapes = [(p1, p1), (p2, p2), (p3, p3), (p1, p2, 1), (p1, p2, p3)]
    f1, f2, f3, first, second = (
        torch.complex(*part.view(2, *shape)) for part, shape in zip(parts, shapes, strict=True)
    )
    values = torch.zeros(p1, p2, p3, dtype=torch.complex128)
    values[:n1, :n2, :n3] = z.view(n1, n2, n3)
    values = torch.einsum("ka,abc->kbc", f1, values) * first
    values = torch.einsum("lb,kbc->klc", f2, values) * second
    return torch.einsum("mc,klc->klm", f3, values).flatten()


@pytest.mark.parametrize("length", LENGTHS)
def test_tables_make_the_transform(length: int) -> None:
    plan = made(length)
    z = torch.randn(length, dtype=torch.complex128)
    truth = torch.fft.ifft(z) * length  # the positive exponent
    bins = plan.bins()
    found = transformed(z, plan)[bins >= 0]
    assert torch.linalg.norm(found - truth[bins[bins >= 0]]) <= 1e-6 * torch.linalg.norm(truth)


@pytest.mark.parametrize("length", LENGTHS)
def test_each_bin_stands_once_among_the_values(length: int) -> None:
    bins = made(length).bins()
    assert bins[bins >= 0].sort().values.tolist() == list(range(length))


@pytest.mark.parametrize("length", [*WIDTHS, *INNER])
def test_hidden_and_inner_widths_of_models_have_a_plan(length: int) -> None:
    plan = made(length)
    assert plan.values <= 4096  # what a program holds without spills
    assert plan.padded[0] % SLAB == 0
    assert max(plan.factors[1:]) <= 64


@pytest.mark.parametrize("length", [257, 2 * 509, 1 << 17])
def test_a_large_prime_or_a_long_transform_has_none(length: int) -> None:
    assert plan_of(length) is None


def test_links_and_pairs_are_those_of_the_update() -> None:
    """The update as a matrix between held bins and bins of the output, by hand from both tables."""
    basis = SpectralBasis(24, 18, uniform_entries(24, 18, 40, 3))
    u, v = basis.entries
    inner, outer = holding_of(made(18), v, CPU), holding_of(made(24), u, CPU)
    links, pairs = links_of(inner, 24, v, u, CPU), pairs_of(outer, inner, basis.entries, CPU)
    found = set()
    kept = {slot: b for b, slot in enumerate(inner.places.tolist()) if slot >= 0}
    for level in range(links.depth):
        for to, (slot, k) in enumerate(
            zip(links.source[level].tolist(), links.coefficient[level].tolist(), strict=True)
        ):
            if slot >= 0:
                found.add((to, kept[slot], k))
    expected = {(int(a), int(b), k) for k, (a, b) in enumerate(zip(u, v, strict=True))}
    expected |= {(-a % 24, -b % 18, k) for a, b, k in expected}
    # an entry that is its own mirror image counts twice at one place
    assert found == expected
    assert int((links.source >= 0).sum()) == 2 * 40
    assert inner.places[v].tolist() == pairs.columns.tolist()
    assert outer.places[-u % 24].tolist() == pairs.mirrored_rows.tolist()

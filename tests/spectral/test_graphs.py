"""CUDA graphs, as far as a CPU can tell: no number is read, no shape follows from one, nothing captured is kept."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

from fourierft.errors import BackendError
from fourierft.rows.terms import add_updates
from fourierft.spectral import (
    PreparedUpdate,
    adapted_linear,
    basis,
    delta_weight,
    eager,
    probe,
    spectral_embedding,
    spectral_linear,
    transforms,
    uniform_basis,
)
from lab.bench.graphs import Captured, by_torch

OUT, IN, N, ROWS = 24, 36, 10, 6
BASIS = uniform_basis(OUT, IN, N, 5)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def mixed_rows() -> torch.Tensor:
    x, sets = randn(ROWS, 3, IN), randn(ROWS, 1, N)
    return adapted_linear(x, randn(OUT, IN), None, sets, BASIS, 30.0)


def tokens_of_many_adapters() -> torch.Tensor:
    table, slots = randn(4, N), torch.arange(ROWS) % 4
    return spectral_linear(randn(ROWS, IN), table[slots], BASIS, 30.0)


def prepared_rows() -> torch.Tensor:
    update, rows = PreparedUpdate(randn(2, N), BASIS, 30.0), torch.arange(2) * 3
    return add_updates(randn(ROWS, 2, OUT), randn(ROWS, 2, IN), [(rows, update)])


def embedded_rows() -> torch.Tensor:
    return spectral_embedding(torch.arange(8).view(2, 4), randn(2, 1, N), BASIS, 30.0)


def training_step(view: str, dtype: torch.dtype) -> torch.Tensor:
    x = randn(2, 40, IN).to(dtype).requires_grad_()
    coefficients = randn(N).requires_grad_()
    y = adapted_linear(x, randn(OUT, IN).to(dtype), randn(OUT).to(dtype), coefficients, BASIS, 30.0, view=view)
    grad_x, grad_coefficients = torch.autograd.grad(y.sum(), [x, coefficients])
    return torch.cat([grad_x.flatten().float(), grad_coefficients])


WORK: dict[str, Callable[[], torch.Tensor]] = {
    "mixed rows": mixed_rows,
    "tokens of many adapters": tokens_of_many_adapters,
    "prepared rows": prepared_rows,
    "rows of an embedding": embedded_rows,
    "a step, weight view": lambda: training_step("weight", torch.float32),
    "a step, token view": lambda: training_step("token", torch.float32),
    "a step in bfloat16": lambda: training_step("token", torch.bfloat16),
    "an update": lambda: delta_weight(randn(N), BASIS, 30.0),
}


@pytest.mark.parametrize("name", WORK)
def test_work_reads_no_number_and_has_shapes_that_are_known(name: str) -> None:
    expected = WORK[name]()
    with by_torch():
        WORK[name]()
        with Captured():
            found = WORK[name]()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
        lambda x: x.repeat_interleave(torch.arange(3)),
    ],
)
def test_what_a_graph_cannot_hold_is_noticed(work: Callable[[torch.Tensor], object]) -> None:
    x = randn(3)
    with pytest.raises(BackendError, match="cannot be captured in a graph"), Captured():
        work(x)


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a graph of the CPU's work were captured."""
    for module in (eager, basis, probe, transforms):
        monkeypatch.setattr(module, "is_captured", lambda device: True)


@pytest.mark.usefixtures("capturing")
def test_a_first_use_in_a_graph_ends_in_one_sentence() -> None:
    fresh = uniform_basis(OUT, IN, N, 6)
    with pytest.raises(BackendError, match="run the model once before you capture it"):
        fresh.links(torch.device("cpu"))


@pytest.mark.usefixtures("capturing")
def test_transforms_are_not_probed_in_a_graph_and_count_as_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_checked", set())
    with Captured():
        probe.check_token_transforms(OUT, IN, torch.float32, torch.device("cpu"))
        probe.check_weight_transforms(OUT, IN, torch.float32, torch.device("cpu"))
    assert not probe._checked


def test_tables_of_a_batch_belong_to_the_graph_that_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    links = BASIS.links(torch.device("cpu"))
    spectrum, factors = randn(3, links.source_rows, 2), randn(3, 2 * N)
    transforms._kept_stacks.cache_clear()
    monkeypatch.setattr(transforms, "is_captured", lambda device: True)
    found = transforms.mix(spectrum, factors, links)
    assert transforms._kept_stacks.cache_info().currsize == 0
    monkeypatch.undo()
    assert torch.equal(found, transforms.mix(spectrum, factors, links))
    assert transforms._kept_stacks.cache_info().currsize == 1


def test_tables_stay_where_they_are() -> None:
    device = torch.device("cpu")
    before = [tensor.data_ptr() for tensor in vars(BASIS.links(device)).values() if isinstance(tensor, torch.Tensor)]
    for rows in range(2, 50):  # more than are kept for batches
        transforms.mix(randn(rows, BASIS.links(device).source_rows, 2), randn(rows, 2 * N), BASIS.links(device))
    gc.collect()
    one = transforms._batched(BASIS.links(device), 1)
    after = [tensor.data_ptr() for tensor in vars(BASIS.links(device)).values() if isinstance(tensor, torch.Tensor)]
    assert before == after
    assert {tensor.data_ptr() for tensor in one} <= set(before)

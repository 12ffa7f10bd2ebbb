"""A basis is one object for equal content, checked when made, with index tensors built once a device."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch

from fourierft import SpectralBasis, spectral_linear, uniform_basis, uniform_entries
from fourierft.errors import ConfigError, ShapeError
from fourierft.spectral.draw import basis_of

CPU = torch.device("cpu")


def make(*columns: tuple[int, int]) -> SpectralBasis:
    return SpectralBasis(5, 6, torch.tensor(columns).T)


def test_equal_content_is_one_object() -> None:
    first = make((1, 2), (3, 4))
    assert make((1, 2), (3, 4)) is first
    assert SpectralBasis(5, 6, first.entries.to(torch.int32)) is first
    assert SpectralBasis(5, 6, torch.tensor([[1, 2], [3, 4]]).t()) is first


def test_other_content_is_another_basis() -> None:
    first = make((1, 2), (3, 4))
    others = [
        make((3, 4), (1, 2)),
        make((1, 2)),
        SpectralBasis(6, 5, first.entries),
        SpectralBasis(5, 7, first.entries),
    ]
    assert len({first, *others}) == 5
    assert len({basis.key for basis in (first, *others)}) == 5


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda basis: pickle.loads(pickle.dumps(basis))])
def test_copies_are_the_same_object(again) -> None:
    basis = uniform_basis(7, 9, 20, 3)
    assert again(basis) is basis
    assert again({"basis": [basis]})["basis"][0] is basis


def test_a_pickled_basis_outlives_its_process_by_content() -> None:
    basis = make((0, 1), (4, 5))
    content, key, entries = pickle.dumps(basis), basis.key, basis.entries.clone()
    del basis
    gc.collect()
    back = pickle.loads(content)
    assert back.key == key
    assert torch.equal(back.entries, entries)


def test_uniform_basis_is_drawn_once_from_uniform_entries() -> None:
    basis = uniform_basis(7, 9, 20, 3)
    assert uniform_basis(7, 9, 20, 3) is basis
    assert (basis.out_features, basis.in_features, basis.n_frequency) == (7, 9, 20)
    assert torch.equal(basis.entries, uniform_entries(7, 9, 20, 3))


def test_entries_are_copied_so_that_the_callers_stay_free() -> None:
    entries = torch.tensor([[0, 1], [2, 3]])
    basis = SpectralBasis(5, 6, entries)
    entries.zero_()
    assert basis.entries.tolist() == [[0, 1], [2, 3]]


def test_index_tensors_are_built_once_a_device() -> None:
    basis = make((1, 2), (3, 4))
    for table in (basis.links, basis.reversed_links, basis.half_spectrum):
        assert table(CPU) is table(CPU)
        moved = table(torch.device("meta"))
        assert moved is table(torch.device("meta"))
        tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
        assert tensors
        assert all(tensor.is_meta for tensor in tensors)
    assert basis.links(torch.device("meta")).target_rows == basis.links(CPU).target_rows == 6


def test_a_basis_nobody_uses_is_collected() -> None:
    basis = make((2, 2), (3, 3), (4, 4))
    key, watch = basis.key, weakref.ref(basis)
    basis.links(CPU)
    assert basis_of(key) is basis
    del basis
    gc.collect()
    assert watch() is None
    with pytest.raises(ConfigError, match="make a SpectralBasis of the same entries"):
        basis_of(key)


def test_a_basis_lives_until_the_backward_pass_that_needs_it() -> None:
    x, coefficients = torch.randn(4, 6, requires_grad=True), torch.randn(3, requires_grad=True)
    y = spectral_linear(x, coefficients, make((0, 0), (0, 1), (4, 5)), 2.0)
    gc.collect()
    y.sum().backward()
    assert x.grad is not None
    assert coefficients.grad is not None


def test_links_are_sorted_by_target_and_each_coefficient_finds_its_two() -> None:
    links = uniform_basis(31, 37, 60, 1).links(CPU)
    assert (links.target.diff() >= 0).all()
    starts = [int((links.target < row).sum()) for row in range(links.target_rows)]
    assert links.offsets.tolist() == starts
    assert (links.coefficient[links.places] == torch.arange(60)).all()
    assert links.places.flatten().sort().values.tolist() == list(range(120))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (torch.zeros(2, 0, dtype=torch.int64), "use integers [2, n] with n >= 1"),
        (torch.zeros(3, 4, dtype=torch.int64), "entries are torch.int64 [3, 4]; use integers [2, n] with n >= 1"),
        (torch.zeros(2, dtype=torch.int64), "entries are torch.int64 [2]; use integers [2, n] with n >= 1"),
        (torch.zeros(2, 1), "entries are torch.float32 [2, 1]; use integers [2, n] with n >= 1"),
        (torch.zeros(2, 1, dtype=torch.bool), "entries are torch.bool [2, 1]; use integers [2, n] with n >= 1"),
        (torch.zeros(2, 1, dtype=torch.cfloat), "entries are torch.complex64 [2, 1]; use integers [2, n] with n >= 1"),
        (torch.tensor([[5], [0]]), "use rows in 0..4 and columns in 0..5"),
        (torch.tensor([[0], [6]]), "use rows in 0..4 and columns in 0..5"),
        (torch.tensor([[-1], [0]]), "use rows in 0..4 and columns in 0..5"),
        (torch.tensor([[1, 2, 1], [3, 3, 3]]), "1 of 3 entries are repeated; use each once"),
    ],
)
def test_entries_that_are_none_are_refused(entries: torch.Tensor, message: str) -> None:
    with pytest.raises(ShapeError) as error:
        SpectralBasis(5, 6, entries)
    assert message in str(error.value)


def test_a_basis_names_its_size() -> None:
    assert repr(make((1, 2), (3, 4))) == "SpectralBasis(5 x 6, n_frequency=2)"

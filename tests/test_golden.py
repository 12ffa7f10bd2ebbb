"""Golden vectors, made apart from this package, through every path: the dense update and each view."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from fourierft import adapted_linear, delta_weight, spectral_linear, uniform_basis, uniform_entries
from fourierft.spectral.reference import reference_delta_weight

CASES = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text())
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}  # of the largest number of a vector
TOKENS = torch.tensor([1.0, 2.0, -0.5])  # tokens of a row, as multiples of the golden x
SETS = torch.tensor([1.0, -3.0])  # sets of coefficients, as multiples of the golden ones


@pytest.fixture(params=CASES, ids=lambda case: "{out_features}x{in_features}-n{n_frequency}".format(**case))
def case(request: pytest.FixtureRequest) -> dict:
    return request.param


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class Golden:
    """A case in one dtype, with the comparisons its numbers allow."""

    def __init__(self, case: dict, dtype: torch.dtype) -> None:
        self.case, self.dtype, self.scaling = case, dtype, case["scaling"]
        shape = case["out_features"], case["in_features"]
        self.basis = uniform_basis(*shape, case["n_frequency"], case["seed"])
        self.coefficients, self.x, self.grad = (
            torch.tensor(case[name], dtype=torch.float64).to(dtype) for name in ("coefficients", "x", "grad_output")
        )
        exact = torch.tensor(case["coefficients"], dtype=torch.float64)
        self.delta = reference_delta_weight(exact, self.basis.entries, *shape, self.scaling)  # probed by the test below
        self.grad_x = torch.tensor(case["grad_output"], dtype=torch.float64) @ self.delta
        self.grad_coefficients = torch.tensor(case["grad_coefficients"], dtype=torch.float64)

    def assert_close(self, found: torch.Tensor | None, expected: torch.Tensor) -> None:
        assert found is not None
        assert found.dtype == self.dtype
        assert found.shape == expected.shape
        error = (found.detach().double() - expected).abs().max()
        assert error <= TOLERANCE[self.dtype] * expected.abs().max()

    def assert_output(self, y: torch.Tensor, factor: float = 1.0) -> None:
        places, expected = zip(*self.case["y_probes"], strict=True)
        self.assert_close(y[list(places)], factor * torch.tensor(expected, dtype=torch.float64))


@pytest.fixture
def golden(case: dict, dtype: torch.dtype) -> Golden:
    return Golden(case, dtype)


def test_entries_have_the_golden_hash(case: dict) -> None:
    entries = uniform_entries(case["out_features"], case["in_features"], case["n_frequency"], case["seed"])
    assert entries.T[: len(case["entries_head"])].tolist() == case["entries_head"]
    flat = (entries[0] * case["in_features"] + entries[1]).numpy().astype("<i8")
    assert hashlib.sha256(flat.tobytes()).hexdigest() == case["entries_sha256"]


def test_the_reference_gives_the_golden_numbers(case: dict) -> None:
    golden = Golden(case, torch.float64)
    rows, columns, expected = zip(*case["delta_probes"], strict=True)
    golden.assert_close(golden.delta[list(rows), list(columns)], torch.tensor(expected, dtype=torch.float64))
    golden.assert_output(golden.delta @ golden.x)


def test_the_dense_delta_gives_the_golden_numbers(golden: Golden) -> None:
    c = golden.coefficients.requires_grad_()
    delta = delta_weight(c, golden.basis, golden.scaling)
    rows, columns, expected = zip(*golden.case["delta_probes"], strict=True)
    golden.assert_close(delta[list(rows), list(columns)], torch.tensor(expected, dtype=torch.float64))
    golden.assert_close(delta, golden.delta)
    delta.backward(torch.outer(golden.grad, golden.x))
    golden.assert_close(c.grad, golden.grad_coefficients)


def test_the_token_view_gives_the_golden_numbers(golden: Golden) -> None:
    x, c = golden.x.requires_grad_(), golden.coefficients.requires_grad_()
    y = spectral_linear(x, c, golden.basis, golden.scaling)
    golden.assert_output(y)
    y.backward(golden.grad)
    golden.assert_close(x.grad, golden.grad_x)
    golden.assert_close(c.grad, golden.grad_coefficients)


@pytest.mark.parametrize("view", ["weight", "token"])
def test_an_adapted_layer_gives_the_golden_numbers(golden: Golden, view: str) -> None:
    x, c = golden.x.requires_grad_(), golden.coefficients.requires_grad_()
    weight = torch.zeros(golden.basis.out_features, golden.basis.in_features, dtype=golden.dtype)
    y = adapted_linear(x, weight, None, c, golden.basis, golden.scaling, view)
    golden.assert_output(y)
    y.backward(golden.grad)
    golden.assert_close(x.grad, golden.grad_x)
    golden.assert_close(c.grad, golden.grad_coefficients)


def test_the_row_view_gives_the_golden_numbers_with_one_token_a_row(golden: Golden) -> None:
    x = torch.stack([golden.x, golden.x]).requires_grad_()
    c = (SETS.to(golden.dtype)[:, None] * golden.coefficients).requires_grad_()
    y = spectral_linear(x, c, golden.basis, golden.scaling)
    y.backward(torch.stack([golden.grad, golden.grad]))
    for row, factor in enumerate(SETS.tolist()):
        golden.assert_output(y[row], factor)
        golden.assert_close(x.grad[row], factor * golden.grad_x)
        golden.assert_close(c.grad[row], golden.grad_coefficients)


def test_the_row_view_gives_the_golden_numbers_with_several_tokens_a_row(golden: Golden) -> None:
    tokens, sets = TOKENS.to(golden.dtype), SETS.to(golden.dtype)
    x = (tokens[:, None] * golden.x).expand(2, 3, -1).clone().requires_grad_()  # [2, 3, in]
    c = (sets[:, None, None] * golden.coefficients).requires_grad_()  # [2, 1, n]
    y = spectral_linear(x, c, golden.basis, golden.scaling)
    y.backward(golden.grad.expand(2, 3, -1))
    for row, factor in enumerate(SETS.tolist()):
        for token, multiple in enumerate(TOKENS.tolist()):
            golden.assert_output(y[row, token], factor * multiple)
            golden.assert_close(x.grad[row, token], factor * golden.grad_x)
        golden.assert_close(c.grad[row, 0], TOKENS.sum().item() * golden.grad_coefficients)

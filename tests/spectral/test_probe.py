"""The probe lets right transforms through, once, and stops wrong ones with a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fourierft import adapted_linear, delta_weight, spectral_linear, uniform_basis
from fourierft.errors import BackendError
from fourierft.spectral import probe

pytestmark = pytest.mark.usefixtures("torch_path")
CPU = torch.device("cpu")
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 12, 63, 64, 131, 768]
DTYPES = [torch.float32, torch.float64]


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """As if this process had probed nothing yet."""
    checked: set = set()
    monkeypatch.setattr(probe, "_checked", checked)
    return checked


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    calls: list[str] = []
    transform = getattr(torch.fft, name)

    def counted(*arguments, **keywords) -> torch.Tensor:
        calls.append(name)
        return transform(*arguments, **keywords)

    monkeypatch.setattr(torch.fft, name, counted)
    return calls


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[[torch.Tensor], torch.Tensor]) -> None:
    transform = getattr(torch.fft, name)
    monkeypatch.setattr(torch.fft, name, lambda *arguments, **keywords: fault(transform(*arguments, **keywords)))


def test_a_2048_square_update_is_right_with_two_threads(two_threads: None, unprobed: set) -> None:
    """The CPU build of torch 2.13 gives a complex inverse of this size, with two threads, 2048**2 times too large."""
    size, n = 2048, 300
    basis = uniform_basis(size, size, n, 777)
    coefficients = torch.randn(n)
    found = delta_weight(coefficients, basis, scaling=float(size * size))
    rows, columns = torch.tensor([0, 1, 777, 1024, 1025, 2047]), torch.arange(size)
    expected = torch.zeros(len(rows), size, dtype=torch.float64)
    for c, u, v in zip(coefficients.double(), *basis.entries, strict=True):
        turns = (rows * u % size)[:, None] + columns * v % size
        expected += c * torch.cos(2 * math.pi * turns.double() / size)
    unit = expected.abs().max()
    assert (found[rows].double() - expected).abs().max() < 1e-5 * unit
    x = torch.randn(3, size)
    y = spectral_linear(x, coefficients, basis, scaling=float(size * size))
    assert (y[:, rows].double() - x.double() @ expected.T).abs().max() < 1e-5 * (x.double() @ expected.T).abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_right_transforms_pass(unprobed: set, length: int, dtype: torch.dtype) -> None:
    probe.check_token_transforms(length, 2 * length + 1, dtype, CPU)
    for other in (1, 2, 3, 7, 12, length):
        probe.check_weight_transforms(length, other, dtype, CPU)
        probe.check_weight_transforms(other, length, dtype, CPU)


def test_each_shape_is_probed_once(unprobed: set, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_calls(monkeypatch, "irfft")
    probe.check_token_transforms(12, 18, torch.float32, CPU)
    probe.check_weight_transforms(12, 18, torch.float32, CPU)
    first = len(calls)
    assert first > 0
    probe.check_token_transforms(12, 18, torch.float32, CPU)
    probe.check_weight_transforms(12, 18, torch.float32, CPU)
    assert len(calls) == first
    probe.check_token_transforms(12, 18, torch.float64, CPU)
    assert len(calls) > first


FAULTS = {
    "unnormalised": lambda y: y * 48,
    "negated": lambda y: -y,
    "shifted": lambda y: y.roll(1, -1),
    "not a number": lambda y: y * math.nan,
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("transform", ["rfft", "irfft"])
def test_a_wrong_token_transform_is_stopped(
    unprobed: set, monkeypatch: pytest.MonkeyPatch, transform: str, fault: str
) -> None:
    spoil(monkeypatch, transform, FAULTS[fault])
    basis = uniform_basis(36, 48, 10, 1)
    with pytest.raises(BackendError) as error:
        spectral_linear(torch.randn(2, 48), torch.randn(10), basis, 1.0)
    message = str(error.value)
    assert message.startswith(f"{transform} of length ")
    assert "torch.float32 on cpu is wrong by" in message
    assert f"torch {torch.__version__}, {torch.get_num_threads()} threads" in message
    assert message.endswith("use another torch build, device or number of threads")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_weight_transform_is_stopped(unprobed: set, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    spoil(monkeypatch, "irfft", FAULTS[fault])
    basis = uniform_basis(36, 48, 10, 1)
    with pytest.raises(BackendError, match=r"of 36 x 48 in torch.float32 on cpu is wrong by"):
        delta_weight(torch.randn(10), basis, 1.0)
    with pytest.raises(BackendError, match=r"of 36 x 48 in torch.float32 on cpu is wrong by"):
        adapted_linear(torch.randn(2, 48), torch.randn(36, 48), None, torch.randn(10), basis, 1.0, view="weight")


def test_a_wrong_gradient_transform_is_stopped(unprobed: set, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "rfft2", lambda y: y / 48)
    with pytest.raises(BackendError, match=r"rfft2 of 36 x 48 in torch.float32 on cpu is wrong by"):
        delta_weight(torch.randn(10), uniform_basis(36, 48, 10, 1), 1.0)


def test_a_machine_found_wrong_is_probed_again(unprobed: set, monkeypatch: pytest.MonkeyPatch) -> None:
    basis = uniform_basis(36, 48, 10, 1)
    with monkeypatch.context() as broken:
        spoil(broken, "irfft", torch.zeros_like)
        for _ in range(2):
            with pytest.raises(BackendError):
                delta_weight(torch.randn(10), basis, 1.0)
    assert delta_weight(torch.randn(10), basis, 1.0).shape == (36, 48)

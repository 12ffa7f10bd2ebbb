from __future__ import annotations

import pytest
import torch

from fourierft.training.devices import find_device


@pytest.mark.parametrize(
    ("has_gpu", "use_cpu", "expected"),
    [(False, False, "cpu"), (False, True, "cpu"), (True, True, "cpu"), (True, False, "cuda")],
)
def test_a_torch_for_cuda_uses_the_gpu_that_is_there(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, use_cpu: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))  # as such builds do
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    assert find_device(use_cpu) == torch.device(expected)


@pytest.mark.parametrize("use_cpu", [False, True])
def test_what_is_found_can_be_computed_on(use_cpu: bool) -> None:
    assert torch.ones(2, device=find_device(use_cpu)).sum() == 2


def test_a_torch_without_accelerators_has_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert find_device(use_cpu=False) == torch.device("cpu")

"""Models whose weights accelerate keeps elsewhere and brings back layer by layer: right numbers, or one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from peft import PeftModel, get_peft_model
from torch import nn

from fourierft.errors import ConfigError
from fourierft.tuner import FourierFTConfig

IDS = torch.arange(24).view(4, 6) % 20
CPU = torch.device("cpu")


class Doubled(nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return 2 * nn.functional.embedding(ids, self.weight)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.doubled, self.mixing = nn.Embedding(20, 8), Doubled(20, 8), nn.Conv1d(8, 8, 3, padding=1)
        self.head, self.experts = nn.Linear(8, 8), Experts()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.doubled(ids)
        return self.experts(self.head(self.mixing(x.transpose(1, 2)).transpose(1, 2)))


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.randn(3, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(x @ weight for weight in self.stack)


def make(base: nn.Module, **targets: Any) -> PeftModel:
    return get_peft_model(base, FourierFTConfig(n_frequency=10, init_weights=False, scaling=20.0, **targets)).eval()


def to_memory(model: nn.Module, folder: Path) -> None:
    cpu_offload(model, execution_device=CPU)


def to_disk(model: nn.Module, folder: Path) -> None:
    disk_offload(model, str(folder), execution_device=CPU)


OFFLOADS: list[Callable[[nn.Module, Path], None]] = [to_memory, to_disk]


@pytest.mark.parametrize("offload", OFFLOADS)
@pytest.mark.parametrize("target", ["head", "tokens", "doubled", "mixing"])
@torch.no_grad()
def test_an_offloaded_model_gives_what_it_gave_before(target: str, offload: Callable, tmp_path: Path) -> None:
    model = make(Small(), target_modules=[target])
    plain = model(IDS)
    offload(model, tmp_path)
    assert all(parameter.is_meta for parameter in model.parameters())
    for _ in range(2):
        torch.testing.assert_close(model(IDS), plain, rtol=1e-5, atol=1e-5)
    model.merge_adapter()
    torch.testing.assert_close(model(IDS), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("offload", OFFLOADS)
@pytest.mark.parametrize("target", ["head", "tokens", "doubled", "mixing"])
def test_an_adapter_that_came_after_offloading_is_refused(target: str, offload: Callable, tmp_path: Path) -> None:
    base = Small()
    offload(base, tmp_path)
    model = make(base, target_modules=[target])
    for mode in (torch.no_grad, torch.enable_grad):
        with mode(), pytest.raises(ConfigError, match=rf"coefficients of {target} have no numbers.*first"):
            model(IDS)


@pytest.mark.parametrize("is_first", [True, False])
def test_offloaded_parameters_are_refused(is_first: bool, tmp_path: Path) -> None:
    base = Small()
    if is_first:
        to_memory(base, tmp_path)
    model = make(base, target_parameters=["experts.stack"])
    if not is_first:
        to_memory(model, tmp_path)
    with pytest.raises(ConfigError, match=r"experts\.stack was offloaded"):
        model(IDS)


def test_a_model_on_the_meta_device_still_has_shapes() -> None:
    with torch.device("meta"):
        model = make(Small(), target_modules=["head", "tokens", "mixing"])
        assert model(torch.zeros(4, 6, dtype=torch.int64)).shape == (4, 6, 8)

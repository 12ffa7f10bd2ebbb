"""Adapters that are kept as each version of the format wrote them: they are read for ever.

`files/1` has no number of its own: it is what fourierft wrote before there was one. `files/stock` is PEFT's. Beside
each lies dW of every layer in float64, from the cosine sum and, for PEFT's, from torch's `ifft2`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

import fourierft
from fourierft import delta_weight
from fourierft.format.checkpoint import read_checkpoint

FILES = Path(__file__).with_name("files")
KEPT = sorted(path.parent for path in FILES.rglob("adapter_config.json"))
KINDS = {"plain", "auto", "bandpass", "convolution", "embedding"}


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    fourierft.enable()
    yield
    fourierft.disable()


def test_each_format_is_kept_in_each_kind() -> None:
    kinds = {path.name: {kept.name for kept in path.iterdir()} for path in FILES.iterdir() if path.name.isdigit()}
    assert kinds == {"1": KINDS, "2": KINDS}
    assert len(KEPT) == 11


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_parser_reads_it(path: Path) -> None:
    checkpoint, expected = read_checkpoint(path), load_file(path / "expected.safetensors")
    assert set(checkpoint.coefficients) == set(expected)
    for name, update in expected.items():
        coefficients = checkpoint.coefficients[name]
        rows, columns = update.shape
        basis = checkpoint.basis(rows, columns, len(coefficients))
        found = delta_weight(coefficients.double(), basis, checkpoint.scaling)
        torch.testing.assert_close(found, update, rtol=1e-6, atol=1e-6)
    if path.parent.name == "2":
        assert checkpoint.shapes == {name: tuple(update.shape) for name, update in expected.items()}


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_peft_loads_it_with_our_tuner(path: Path, make_base: Callable[[], Any]) -> None:
    model = peft.PeftModel.from_pretrained(make_base(), path)
    for name, update in load_file(path / "expected.safetensors").items():
        found = model.get_base_model().get_submodule(name).get_delta_weight("default")
        torch.testing.assert_close(found.double().reshape(update.shape), update, rtol=1e-5, atol=1e-5)

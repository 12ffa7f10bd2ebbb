"""The views in graphs: compiled, exported, traced and recorded, from a basis that no call has used before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from fourierft import SpectralBasis, uniform_basis, uniform_entries
from fourierft.errors import ConfigError
from fourierft.spectral import bandpass_basis, ops
from fourierft.spectral.reference import reference_delta_weight

from .adapted import Adapted

pytestmark = [  # what torch says of itself
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning"),
]


def truth(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """The float64 cosine sum in the weights of both layers."""
    weights = []
    layers: tuple[Any, ...] = (model[0], model[2])
    for layer in layers:
        (rows, columns), c = layer.weight.shape, layer.coefficients.detach()
        weights.append(layer.weight.double() + reference_delta_weight(c, layer.basis.entries, rows, columns, 20.0))
    hidden = F.gelu(x.double() @ weights[0].T + model[0].bias.double())
    return (hidden @ weights[1].T + model[2].bias.double()).float()


def fresh_model(seed: int, view: str = "auto") -> nn.Sequential:
    """A model whose bases no one in this process has used."""
    bases = [SpectralBasis(*shape, uniform_entries(*shape, 20, seed)) for shape in ((18, 12), (7, 18))]
    return nn.Sequential(Adapted(bases[0], view), nn.GELU(), Adapted(bases[1], view))


@pytest.mark.parametrize(("strict", "view"), [(True, "auto"), (False, "auto"), (False, "token"), (False, "weight")])
def test_what_is_exported_takes_any_number_of_tokens(strict: bool, view: str) -> None:
    model = fresh_model(9001, view)
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    with torch.no_grad():
        program = torch.export.export(model, (torch.randn(4, 5, 12),), dynamic_shapes=({**sizes},), strict=strict)
    for shape in [(4, 5), (1, 3), (300, 20)]:
        x = torch.randn(*shape, 12)
        for found in (program.module()(x), program.run_decompositions().module()(x)):
            torch.testing.assert_close(found, truth(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("band", [None, (2.0, 3.0)])
def test_an_exported_program_and_a_trace_run_in_another_process(tmp_path: Path, band: tuple | None) -> None:
    torch.manual_seed(0)
    shapes = [(18, 12), (7, 18)]
    bases = [bandpass_basis(*s, 20, 9002, *band) if band else uniform_basis(*s, 20, 9002) for s in shapes]
    model, x = nn.Sequential(Adapted(bases[0], "auto"), nn.GELU(), Adapted(bases[1], "auto")), torch.randn(4, 12)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    torch.jit.trace(model, (x,)).save(str(tmp_path / "model.pt"))
    torch.save({"x": x, "y": truth(model, x)}, tmp_path / "pair.pt")
    code = f"""
import sys, torch, fourierft.spectral
pair = torch.load("{tmp_path}/pair.pt")
for model in (torch.export.load("{tmp_path}/model.pt2").module(), torch.jit.load("{tmp_path}/model.pt")):
    torch.testing.assert_close(model(pair["x"]), pair["y"], rtol=1e-4, atol=1e-4)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_graph_whose_entries_are_not_here_says_so() -> None:
    with pytest.raises(ConfigError, match="needs the entries 5x6:9:0123, which this process does not have"):
        ops.OPS.token_view(torch.randn(1, 2, 6), torch.randn(1, 9), "5x6:9:0123", 1.0, False)


@pytest.mark.parametrize("grad", [True, False])
def test_a_trace_takes_other_shapes(grad: bool) -> None:
    model = fresh_model(9003 + grad)
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(model, (torch.randn(4, 5, 12),))
    for shape in [(4, 5), (7, 3), (1, 1)]:
        x = torch.randn(*shape, 12)
        torch.testing.assert_close(traced(x), truth(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_records_the_operators(mode: Any, grad: bool) -> None:
    model = fresh_model(9010)
    with torch.set_grad_enabled(grad):
        graph = make_fx(model, tracing_mode=mode, _allow_non_fake_inputs=True)(torch.randn(4, 5, 12))
    x = torch.randn(*((6, 7) if mode == "symbolic" else (4, 5)), 12)
    torch.testing.assert_close(graph(x), truth(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grad", [True, False])
def test_fake_tensors_leave_nothing_fake_behind(grad: bool) -> None:
    with FakeTensorMode(), torch.set_grad_enabled(grad):
        y = fresh_model(9020 + grad)(torch.randn(4, 5, 12))
        assert y.shape == (4, 5, 7)
        if grad:
            y.sum().backward()
    model, x = fresh_model(9020 + grad), torch.randn(4, 5, 12)
    torch.testing.assert_close(model(x), truth(model, x), rtol=1e-4, atol=1e-4)


def test_what_is_built_in_inference_mode_trains_later() -> None:
    with torch.inference_mode():
        model = fresh_model(9030)
        model(torch.randn(4, 12))
        bases: list[Any] = [model[0].basis, model[2].basis]
    model, x = nn.Sequential(Adapted(bases[0], "auto"), nn.GELU(), Adapted(bases[1], "auto")), torch.randn(4, 12)
    y = model(x)
    torch.testing.assert_close(y, truth(model, x), rtol=1e-4, atol=1e-4)
    y.sum().backward()
    assert model[0].coefficients.grad is not None


@pytest.mark.parametrize("view", ["auto", "token", "weight"])
def test_a_fresh_basis_compiles_in_one_graph(view: str) -> None:
    torch._dynamo.reset()
    model, x = fresh_model(9040, view), torch.randn(4, 5, 12)
    found = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(found, truth(model, x), rtol=1e-4, atol=1e-4)

"""Inference sees every change of a coefficient and of a base weight, by whichever way it is written."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize, prune
from torch.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters

import fourierft
from fourierft.spectral import Draw, kernels, prepared
from fourierft.spectral.compiled.build import load_kernel
from fourierft.spectral.reference import reference_delta_weight
from fourierft.tuner import inference, layer
from fourierft.tuner.inference import MOST, UpdateCache

Coefficients = Callable[[str], Tensor]


class Two(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(24, 24, dtype=dtype), nn.Linear(24, 8, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x)[..., :8] + self.v(x)


@pytest.fixture(params=["compiled", "torch"] if load_kernel() else ["torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiled kernel, and as on a machine without it."""
    if request.param == "torch":
        for module in (prepared, kernels, inference):
            monkeypatch.setattr(module, "compiled_update", lambda *_: None)


@pytest.fixture
def model(path: None) -> PeftModel:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"target_modules": ["q", "v"], "init_weights": False, "scaling": 30.0}
    peft_model = get_peft_model(Two(), fourierft.FourierFTConfig(n_frequency=20, **settings))
    peft_model.add_adapter("other", fourierft.FourierFTConfig(n_frequency=9, **settings | {"scaling": 50.0}))
    return peft_model.eval()


def layer_truth(layer: Any, x: Tensor, names: list[str]) -> Tensor:
    """By the cosine sum, in float64."""
    base = layer.get_base_layer()
    weight = base.weight.detach().double()
    rows, columns = weight.shape
    for name in names:
        found, basis = layer.coefficients(name).detach(), layer.fourierft_basis[name]
        weight = weight + reference_delta_weight(found, basis.entries, rows, columns, layer.fourierft_scaling[name])
    return x.double() @ weight.T + base.bias.detach().double()


def truth(model: PeftModel, x: Tensor, names: list[str] | None = None) -> Tensor:
    two: Any = model.base_model.model
    if names is None or model.base_model.model.q.merged:
        names = [] if model.base_model.model.q.merged else two.q.active_adapters
    return layer_truth(two.q, x, names)[..., :8] + layer_truth(two.v, x, names)


@torch.no_grad()
def check(model: PeftModel, x: Tensor) -> None:
    for _ in range(2):
        torch.testing.assert_close(model(x).double(), truth(model, x), rtol=1e-5, atol=1e-5)


def q_of(model: PeftModel) -> Any:
    return model.base_model.model.q


def in_numpy(parameter: Tensor) -> None:
    parameter.detach().numpy()[...] *= -1.5


def in_another_thread(parameter: Tensor) -> None:
    thread = threading.Thread(target=lambda: parameter.data.mul_(-1.5))
    thread.start()
    thread.join()


def by_set(parameter: Tensor) -> None:
    parameter.set_((parameter * -1.5).untyped_storage(), 0, parameter.shape, parameter.stride())


def by_vector(parameter: nn.Parameter) -> None:
    vector_to_parameters(parameters_to_vector([parameter]) * -1.5, [parameter])


def by_swap(parameter: nn.Parameter) -> None:
    torch.utils.swap_tensors(parameter, nn.Parameter(parameter.detach() * -1.5, requires_grad=parameter.requires_grad))


def in_inference_mode(parameter: Tensor) -> None:
    with torch.inference_mode():
        parameter.data.mul_(-1.5)


WRITES: dict[str, Callable[[nn.Parameter], object]] = {
    "mul_": lambda p: p.mul_(-1.5),
    "data.copy_": lambda p: p.data.copy_(p.data * -1.5),
    "data.add_": lambda p: p.data.add_(p.data, alpha=-2.5),
    "data.fill_": lambda p: p.data.fill_(0.125),
    "one element": lambda p: p.data.view(-1)[3:4].add_(9.0),
    "data =": lambda p: setattr(p, "data", p.data * -1.5),
    "set_": by_set,
    "swap_tensors": by_swap,
    "vector_to_parameters": by_vector,
    "numpy": in_numpy,
    "a thread": in_another_thread,
    "inference mode": in_inference_mode,
}


@torch.no_grad()
@pytest.mark.parametrize("route", WRITES)
def test_every_write_is_seen(model: PeftModel, route: str) -> None:
    x = torch.randn(3, 24)
    for parameter in (q_of(model).coefficients("default"), q_of(model).base_layer.weight):
        check(model, x)
        before = model(x)
        WRITES[route](parameter)
        check(model, x)
        assert not torch.allclose(model(x), before)


@torch.no_grad()
def test_swapped_weights_come_and_go(model: PeftModel) -> None:
    """What diffusers' EMAModel does: store, copy_to and restore, all through `.data`."""
    x, parameters = torch.randn(3, 24), list(model.parameters())
    plain = model(x)
    stored, average = [p.detach().clone() for p in parameters], [torch.randn_like(p) for p in parameters]
    for p, value in zip(parameters, average, strict=True):
        p.data.copy_(value)
    check(model, x)
    for p, value in zip(parameters, stored, strict=True):
        p.data.copy_(value)
    assert torch.equal(model(x), plain)


@torch.no_grad()
def test_every_change_of_a_model_is_seen(model: PeftModel, tmp_path: Path) -> None:
    x, q = torch.randn(3, 24), q_of(model)
    check(model, x)
    q.fourierft_scaling["default"] *= 3.0
    check(model, x)
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()}, assign=True)
    check(model, x)
    save_model(model, str(tmp_path / "all.safetensors"))
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()})
    check(model, x)
    load_model(model, tmp_path / "all.safetensors")
    check(model, x)
    prune.random_unstructured(q.base_layer, "weight", 0.5)
    check(model, x)
    prune.remove(q.base_layer, "weight")
    check(model, x)
    model.set_adapter("other")
    check(model, x)
    model.base_model.set_adapter(["default", "other"])
    check(model, x)
    model.delete_adapter("other")
    check(model, x)
    model.merge_adapter()
    check(model, x)
    model.unmerge_adapter()
    check(model, x)
    model.to(torch.float64)
    check(model, x.double())


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@torch.no_grad()
def test_a_parametrised_base_weight_is_the_one_that_counts(model: PeftModel) -> None:
    x, base = torch.randn(3, 24), q_of(model).base_layer
    check(model, x)
    parametrize.register_parametrization(base, "weight", Twice())
    check(model, x)
    base.parametrizations.weight.original.data.mul_(0.5)
    check(model, x)


@torch.no_grad()
def test_functional_call_takes_the_parameters_it_is_given(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    check(model, x)
    given = {name: 1.5 * value for name, value in model.named_parameters()}
    found, other = functional_call(model, given, (x,)), copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.data.mul_(1.5)
    torch.testing.assert_close(found.double(), truth(other, x), rtol=1e-5, atol=1e-5)
    check(model, x)


@torch.no_grad()
def test_a_replaced_adapter_of_the_same_name_is_seen(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    for seed in range(5):
        model.set_adapter("default")
        model.delete_adapter("other")
        torch.manual_seed(seed)
        config = fourierft.FourierFTConfig(n_frequency=9, target_modules=["q", "v"], init_weights=False)
        model.add_adapter("other", config)
        model.set_adapter("other")
        check(model, x)


@torch.no_grad()
@pytest.mark.parametrize("write", ["data", "scaling", "entries"])
def test_rows_of_their_own_are_seen_to_change(model: PeftModel, write: str) -> None:
    q = q_of(model)
    for tokens in [(), (1,), (5,)]:
        x = torch.randn(4, *tokens, 24)
        for chosen in (["other", "__base__", "default", "other"], ["default", "other"] * 2, ["other"] * 4):
            for _ in range(2):
                names = [[] if name == "__base__" else [name] for name in chosen]
                rows = [truth(model, x[row], own) for row, own in enumerate(names)]
                found = model(x, adapter_names=chosen).double()
                torch.testing.assert_close(found, torch.stack(rows), rtol=1e-5, atol=1e-5)
                if write == "data":
                    q.coefficients("other").data.neg_()
                    q.base_layer.weight.data.neg_()
                elif write == "scaling":
                    q.fourierft_scaling["other"] *= -1.0
                elif write == "entries":
                    q.fourierft_draw["other"] = Draw(5 + len(tokens))
                    q.fourierft_basis["other"] = fourierft.uniform_basis(24, 24, 9, 5 + len(tokens))


@torch.no_grad()
def test_base_rows_of_a_mixed_batch_are_the_base_models_bit_for_bit(model: PeftModel) -> None:
    x = torch.randn(4, 3, 24)
    found = model(x, adapter_names=["other", "__base__", "default", "__base__"])
    with model.disable_adapter():
        assert torch.equal(found[1::2], model(x)[1::2])


@torch.no_grad()
def test_adapters_that_take_turns_are_prepared_once(model: PeftModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    prepare = inference.PreparedUpdate
    monkeypatch.setattr(inference, "PreparedUpdate", lambda c, *rest: made.append(c) or prepare(c, *rest))
    monkeypatch.setattr(inference, "compiled_update", lambda *_: None)
    for module in (inference, layer):
        monkeypatch.setattr(module, "add_product", lambda *_: False)
    x = torch.randn(2, 24)
    for _ in range(5):
        for name in ("default", "other"):
            model.set_adapter(name)
            model(x)
        model(x, adapter_names=["default", "other"])
    assert len(made) == 2 * 3  # layers, values


def test_only_a_few_values_are_kept() -> None:
    kept, computed = UpdateCache(), []
    for number in [*range(10), *range(9, 5, -1), 0]:
        value = kept.find("kind", torch.tensor([float(number)]), lambda x: computed.append(x) or 2 * x)
        assert value == 2 * number
    assert len(computed) == 10 + 1
    assert len(kept._entries) == MOST
    assert kept.find("another", torch.tensor([0.0]), lambda x: x - 1) == -1


def test_training_and_inference_take_turns(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    outputs = []
    for _ in range(3):
        with torch.no_grad():
            check(model, x)
            outputs.append(model(x))
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not torch.allclose(outputs[0], outputs[2])


@torch.no_grad()
@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_give_the_same(model: PeftModel, copied: Callable[[PeftModel], PeftModel]) -> None:
    x = torch.randn(3, 24)
    expected = model(x)
    other = copied(model)
    torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
    check(other, x)


@torch.no_grad()
def test_a_copy_has_nothing_in_common_with_the_model(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    other, expected = copy.deepcopy(model), model(x)
    q_of(other).coefficients("default").data.mul_(-1.5)
    check(other, x)
    assert torch.equal(model(x), expected)


def test_inference_mode_gives_the_same(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    with torch.inference_mode():
        found = model(x)
    torch.testing.assert_close(found.double(), truth(model, x), rtol=1e-5, atol=1e-5)


def test_a_model_made_in_inference_mode_is_seen_to_change(path: None) -> None:
    with torch.inference_mode():
        config = fourierft.FourierFTConfig(n_frequency=20, target_modules=["q", "v"], init_weights=False, scaling=30.0)
        model, x = get_peft_model(Two(), config).eval(), torch.randn(3, 24)
        for _ in range(2):
            torch.testing.assert_close(model(x).double(), truth(model, x), rtol=1e-5, atol=1e-5)
            q_of(model).coefficients("default").mul_(-1.5)


@torch.no_grad()
def test_outputs_that_someone_else_holds_are_not_written_to(model: PeftModel) -> None:
    x, held = torch.randn(3, 24), []
    base = q_of(model).base_layer
    handle = base.register_forward_hook(lambda module, inputs, y: held.append(y))
    check(model, x)
    handle.remove()
    for y in held:
        torch.testing.assert_close(y, base(x), rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_base_is_rounded_once(dtype: torch.dtype) -> None:
    config = fourierft.FourierFTConfig(n_frequency=20, target_modules=["q", "v"], init_weights=False)
    model = get_peft_model(Two(dtype), config).eval()
    x = torch.randn(3, 24).to(dtype)
    q = q_of(model)
    assert q.coefficients("default").dtype == torch.float32
    expected = (q.base_layer(x).float() + x.float() @ q.get_delta_weight("default").T).to(dtype)
    torch.testing.assert_close(q(x), expected, rtol=0.02, atol=0.02)
    assert q(x).dtype == dtype

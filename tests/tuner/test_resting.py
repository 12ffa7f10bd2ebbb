"""What a layer keeps between calls without gradients never outlives what it was computed from."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

import fourierft
from fourierft.tuner import resting


@pytest.fixture(autouse=True)
def ours() -> Iterator[None]:
    fourierft.enable()
    yield
    fourierft.disable()


class Two(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(24, 24, dtype=dtype), nn.Linear(24, 8, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x)[..., :8] + self.v(x)


@pytest.fixture(params=["small", "large"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PeftModel:
    if request.param == "large":
        monkeypatch.setattr(resting, "SMALL_WEIGHT", 0)
    torch.manual_seed(0)
    settings = {"target_modules": ["q", "v"], "init_weights": False, "scaling": 30.0}
    peft_model = get_peft_model(Two(), fourierft.FourierFTConfig(n_frequency=20, **settings))
    peft_model.add_adapter("other", fourierft.FourierFTConfig(n_frequency=9, **settings))
    return peft_model.eval()


def truth(model: PeftModel, x: Tensor) -> Tensor:
    """The same forward with gradients, where nothing is kept."""
    with torch.enable_grad():
        return model(x).detach()


@torch.no_grad()
def check(model: PeftModel, x: Tensor) -> None:
    torch.testing.assert_close(model(x), truth(copy.deepcopy(model), x))


@torch.no_grad()
def test_every_change_is_seen(model: PeftModel) -> None:
    x, q = torch.randn(3, 24), model.base_model.model.q
    check(model, x)
    q.fourierft_spectrum["default"].mul_(2.0)
    check(model, x)
    q.fourierft_spectrum["default"].data = torch.randn(20)
    check(model, x)
    q.fourierft_spectrum["default"] = nn.Parameter(torch.randn(20))
    check(model, x)
    q.fourierft_scaling["default"] *= 3.0
    check(model, x)
    q.base_layer.weight.mul_(0.5)
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
def test_rows_of_their_own_are_seen_to_change(model: PeftModel) -> None:
    names = ["other", "__base__", "default", "other"]
    for tokens in [(), (1,), (5,)]:
        x = torch.randn(4, *tokens, 24)
        for factor in (1.0, -2.0):
            model.base_model.model.q.fourierft_spectrum["other"].mul_(factor)
            for chosen in (names, ["default", "other", "other", "default"]):
                rows = []
                for row, name in enumerate(chosen):
                    if name == "__base__":
                        with model.disable_adapter():
                            rows.append(truth(model, x[row]))
                    else:
                        model.set_adapter(name)
                        rows.append(truth(model, x[row]))
                torch.testing.assert_close(model(x, adapter_names=chosen), torch.stack(rows))


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
def test_copies_and_pickles_start_with_nothing_kept(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    expected = model(x)
    assert model.base_model.model.q.resting._value is not None
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.base_model.model.q.resting._value is None
        torch.testing.assert_close(other(x), expected)


def test_gradients_drop_what_was_kept(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    with torch.no_grad():
        model(x)
    model(x).sum().backward()
    assert model.base_model.model.q.resting._value is None


def test_inference_mode_gives_the_same(model: PeftModel) -> None:
    x = torch.randn(3, 24)
    with torch.inference_mode():
        found = model(x)
    torch.testing.assert_close(found, truth(model, x))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_base_is_rounded_once(dtype: torch.dtype) -> None:
    config = fourierft.FourierFTConfig(n_frequency=20, target_modules=["q", "v"], init_weights=False)
    model = get_peft_model(Two(dtype), config).eval()
    x = torch.randn(3, 24).to(dtype)
    q = model.base_model.model.q
    assert q.fourierft_spectrum["default"].dtype == torch.float32
    expected = (q.base_layer(x).float() + x.float() @ q.get_delta_weight("default").T).to(dtype)
    torch.testing.assert_close(q(x), expected, rtol=0.02, atol=0.02)
    assert q(x).dtype == dtype

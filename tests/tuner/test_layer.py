"""One adapted layer against the cosine sum."""

import copy
import pickle

import peft
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import CheckpointError, ConfigError, ShapeError
from fourierft.extras import release
from fourierft.tuner import FourierFTConfig, FourierFTLayer

OUT, IN = 14, 9


class Doubled(nn.Linear):
    """A linear layer whose forward is not x W^T + b, as a quantised one's is not."""

    def forward(self, x):
        return 2 * super().forward(x)


def linear(dtype=torch.float32, kind=nn.Linear):
    torch.manual_seed(1)
    if kind is Conv1D:
        layer = Conv1D(OUT, IN)
        nn.init.normal_(layer.bias)
        return layer.to(dtype)
    return kind(IN, OUT).to(dtype)


def adapted(base=None, n=20, **settings):
    torch.manual_seed(2)
    settings = {"scaling": 30.0, "init_weights": False} | settings
    return FourierFTLayer(base if base is not None else linear(), "default", n, FourierFTConfig(**settings))


def tokens(dtype=torch.float32, shape=(3, 5)):
    return torch.randn(*shape, IN, generator=torch.Generator().manual_seed(4)).to(dtype)


TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_forward_is_the_base_layer_plus_the_cosine_sum(kind, dtype, expected):
    layer = adapted(linear(dtype, kind))
    x = tokens(dtype)
    y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected(layer, x), rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_gradients_are_those_of_the_dense_weight(kind, update):
    layer = adapted(linear(torch.float64, kind))
    x = tokens(torch.float64).requires_grad_()
    target = torch.randn(3, 5, OUT, dtype=torch.float64)
    (layer(x) * target).sum().backward()
    base_weight = layer.weight.detach().T if kind is Conv1D else layer.weight.detach()
    torch.testing.assert_close(x.grad, target @ (base_weight + update(layer)), rtol=1e-12, atol=1e-12)
    outer = torch.einsum("bto,bti->oi", target, x.detach())
    spectrum = 30.0 * torch.fft.fft2(outer).conj().real / (OUT * IN)
    rows, columns = layer.fourierft_basis["default"].entries
    torch.testing.assert_close(
        layer.fourierft_spectrum["default"].grad, spectrum[rows, columns], rtol=1e-10, atol=1e-10
    )


def test_float32_coefficients_over_a_bfloat16_base_keep_their_precision(update):
    layer = adapted(linear(torch.bfloat16))
    layer.fourierft_spectrum["default"] = layer.fourierft_spectrum["default"].float()
    x = tokens(torch.bfloat16)
    base = layer.base_layer(x)
    rounded_once = (base.double() + x.double() @ update(layer).T).to(torch.bfloat16)
    assert layer(x).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x), rounded_once, rtol=8e-3, atol=1e-6)


def test_autocast_gives_the_base_layers_dtype_and_runs_the_update_in_float32(update):
    layer, x = adapted(), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        base = layer.base_layer(x)
    assert y.dtype == base.dtype == torch.bfloat16
    rounded_once = (base.double() + x.double() @ update(layer).T).to(torch.bfloat16)
    torch.testing.assert_close(y, rounded_once, rtol=8e-3, atol=1e-6)


def test_a_subclass_of_linear_keeps_its_own_forward(update):
    layer, x = adapted(linear(kind=Doubled)), tokens()
    torch.testing.assert_close(
        layer(x), layer.base_layer(x) + (x.double() @ update(layer).T).float(), rtol=1e-5, atol=1e-5
    )


class Grouped(nn.Linear):
    """Each group of inputs has its own rows of the weight, as in DeepSeek V4's output projection."""

    def forward(self, input):
        groups = input.shape[-2]
        return torch.einsum("...gi,goi->...go", input, self.weight.view(groups, -1, self.in_features))


@pytest.mark.parametrize("training", [True, False])
def test_a_subclass_whose_output_is_no_product_with_the_weight_is_refused(training):
    layer = adapted(Grouped(IN, OUT)).train(training)
    message = rf"the layer is a Grouped that makes \[3, 2, {OUT // 2}\] of \[3, 2, {IN}\] .* exclude_modules"
    with torch.set_grad_enabled(training), pytest.raises(ConfigError, match=message):
        layer(torch.randn(3, 2, IN))


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_the_base_layer_run(register):
    layer, seen = adapted(), []
    getattr(layer.base_layer, register)(lambda *_: seen.append(True))
    layer(tokens())
    assert seen == [True]


def test_a_forward_put_on_the_base_layer_runs(update):
    layer, x = adapted(), tokens()
    layer.base_layer.forward = lambda x: torch.zeros(*x.shape[:-1], OUT)
    torch.testing.assert_close(layer(x), (x.double() @ update(layer).T).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_merged_weight_equals_forward(kind):
    layer, x = adapted(linear(kind=kind)), tokens()
    before = layer(x)
    layer.merge()
    torch.testing.assert_close(layer(x), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.base_layer(x), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_unmerging_returns_the_weight_to_within_a_unit_in_the_last_place(kind, dtype):
    layer = adapted(linear(dtype, kind))
    before = layer.weight.detach().clone()
    layer.merge()
    merged = layer.weight.detach().clone()
    layer.unmerge()
    unit = torch.finfo(dtype).eps * torch.maximum(before.double().abs(), merged.double().abs())
    assert ((layer.weight.double() - before.double()).abs() <= unit).all()
    assert not layer.merged
    assert layer.merge_loss == {}


def test_unmerging_what_is_not_merged_warns():
    with pytest.warns(UserWarning, match="Already unmerged"):
        adapted().unmerge()


def test_safe_merge_refuses_broken_coefficients_and_leaves_the_weight():
    layer = adapted()
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.fourierft_spectrum["default"][3] = float("nan")
    with pytest.raises(ValueError, match="NaNs detected in the merged weights of adapter 'default'"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.weight, before)
    assert not layer.merged


def test_merging_measures_what_bfloat16_rounds_away(update):
    layer = adapted(linear(torch.bfloat16), scaling=1.0)
    before = layer.weight.detach().double()
    layer.merge()
    lost = (layer.weight.detach().double() - before - update(layer)).norm() / update(layer).norm()
    assert layer.merge_loss["default"] == pytest.approx(float(lost), rel=1e-3)
    assert layer.merge_loss["default"] > 0.01


def test_merging_into_float32_reports_no_loss():
    layer = adapted()
    layer.merge()
    assert layer.merge_loss == {}


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        (torch.uint8, "a Linear does not keep its weights as a matrix .* without quantisation"),
        (torch.float16, r"stores its weights as torch\.float16 \[63, 1\].*without quantisation"),
    ],
)
def test_merging_into_packed_weights_is_refused(dtype, message):
    layer = adapted()
    layer.base_layer.weight = nn.Parameter(torch.zeros(63, 1, dtype=dtype), requires_grad=False)
    with pytest.raises(ConfigError, match=message):
        layer.merge()


def test_disabling_a_merged_adapter_unmerges_it(expected):
    layer, x = adapted(), tokens()
    layer.merge()
    layer.enable_adapters(False)
    torch.testing.assert_close(layer(x), layer.base_layer(x), rtol=0, atol=0)
    torch.testing.assert_close(layer(x).double(), expected(layer, x, []), rtol=1e-5, atol=1e-5)


def test_delta_weight_of_the_layer_is_the_cosine_sum(update):
    for kind in (nn.Linear, Conv1D):
        layer = adapted(linear(kind=kind))
        assert layer.get_delta_weight("default").shape == (OUT, IN)
        torch.testing.assert_close(layer.get_delta_weight("default").double(), update(layer), rtol=1e-5, atol=1e-6)


def test_lora_conversion_is_offered_where_stock_peft_offers_it(stock):
    for kind in (nn.Linear, Conv1D):
        ours = adapted(linear(kind=kind)).supports_lora_conversion()
        with stock():
            config = peft.FourierFTConfig(target_modules=["0"], n_frequency=5, fan_in_fan_out=kind is Conv1D)
            theirs = peft.get_peft_model(nn.Sequential(linear(kind=kind)), config).base_model.model[0]
        assert ours == (theirs.supports_lora_conversion() if release("peft") >= (0, 19) else kind is nn.Linear)


def test_too_many_coefficients_are_refused_with_the_limit():
    message = r"n_frequency=200 exceeds the 126 entries of a 14 x 9 weight; use n_frequency <= 126"
    with pytest.raises(ShapeError, match=message):
        adapted(n=200)


def test_a_layer_that_is_not_linear_is_refused():
    with pytest.raises(ConfigError, match="of type LayerNorm cannot be adapted; name linear layers, convolutions or"):
        adapted(nn.LayerNorm(4))


@pytest.mark.parametrize("assign", [False, True])
def test_a_checkpoint_of_another_shape_or_with_nan_is_refused(assign):
    layer = adapted()
    before = layer.fourierft_spectrum["default"].detach().clone()
    state = layer.state_dict()
    state["fourierft_spectrum.default"] = torch.zeros(19)
    with pytest.raises(CheckpointError, match=r"has shape \[19\] in the checkpoint, but this adapter has \[20\]"):
        layer.load_state_dict(state, assign=assign)
    state["fourierft_spectrum.default"] = torch.full((20,), float("inf"))
    with pytest.raises(CheckpointError, match="20 values in the checkpoint that are not finite"):
        layer.load_state_dict(state, assign=assign)
    assert torch.equal(layer.fourierft_spectrum["default"], before)


def test_a_layer_survives_deepcopy_and_pickle_and_shares_its_basis(several):
    layer, x = several, tokens()
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), layer(x))
        assert copied.fourierft_basis["default"] is layer.fourierft_basis["default"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_compiles_without_a_graph_break(training, dtype):
    layer, x = adapted(linear(dtype)), tokens(dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(compiled(x), layer(x), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    if training:
        compiled(x).sum().backward()
        gradient = layer.fourierft_spectrum["default"].grad.clone()
        layer.zero_grad()
        layer(x).sum().backward()
        expected_gradient = layer.fourierft_spectrum["default"].grad
        torch.testing.assert_close(gradient, expected_gradient, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_repr_names_the_method():
    assert repr(adapted()).startswith("fourierft.FourierFTLayer(")

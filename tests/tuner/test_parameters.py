"""Adapted parameters, of fused experts above all, against the cosine sum in float64."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrizations
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.models.granitemoe import modeling_granitemoe

from fourierft.errors import ConfigError, ShapeError
from fourierft.extras import release
from fourierft.format.checkpoint import read_checkpoint
from fourierft.spectral.reference import reference_delta_weight
from fourierft.tuner import FourierFTConfig
from fourierft.tuner.parameters import ParameterHost, ParameterLayer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
IDS = torch.arange(3, 15).view(2, 6)
SMALL: dict[str, Any] = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
WIDE: dict[str, Any] = {"head_dim": 8}
LLAMA4 = SMALL | EXPERTS | WIDE | {"intermediate_size_mlp": 24, "attention_chunk_size": 8}
MODELS: dict[str, tuple[Any, list[str]]] = {
    "mixtral": (lambda: MixtralForCausalLM(MixtralConfig(**SMALL, **EXPERTS)), ["gate_up_proj", "down_proj"]),
    "qwen3": (
        lambda: Qwen3MoeForCausalLM(
            Qwen3MoeConfig(**SMALL, **WIDE, moe_intermediate_size=12, num_experts=4, num_experts_per_tok=2)
        ),
        ["experts.gate_up_proj", "mlp.experts.down_proj"],
    ),
    "gpt_oss": (
        lambda: GptOssForCausalLM(GptOssConfig(**SMALL, **EXPERTS, head_dim=8)),
        ["experts.gate_up_proj", "experts.down_proj"],
    ),
    "llama4": (
        lambda: Llama4ForCausalLM(Llama4TextConfig(**LLAMA4)),
        ["experts.gate_up_proj", "experts.down_proj"],
    ),
    "granite": (
        lambda: GraniteMoeForCausalLM(GraniteMoeConfig(**SMALL, **EXPERTS)),
        ["experts.gate_up_proj", "experts.down_proj"]
        if hasattr(modeling_granitemoe, "GraniteMoeExperts")
        else ["input_linear.weight", "output_linear.weight"],  # in transformers 5.6
    ),
}


def make(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return eager(MODELS[kind][0]().double())


def eager(model: Any) -> PreTrainedModel:
    """A model that computes expert by expert, which takes float64 too."""
    model.set_experts_implementation("eager")
    return model.eval()


def adapt(kind: str, randomise: Any, **settings: Any) -> PeftModel:
    usual: dict[str, Any] = {
        "n_frequency": 20,
        "scaling": 20.0,
        "target_modules": ["q_proj"],
        "target_parameters": MODELS[kind][1],
    }
    model = get_peft_model(make(kind), FourierFTConfig(**usual | settings))
    randomise(model)
    return model.eval()


def layers(model: nn.Module) -> list[ParameterLayer]:
    return [module for module in model.modules() if isinstance(module, ParameterLayer)]


def update_of(layer: ParameterLayer, name: str = "default") -> torch.Tensor:
    """dW in the shape of the parameter, by the cosine sum."""
    shape, entries = (layer.out_features, layer.in_features), layer.fourierft_basis[name].entries
    coefficients = layer.fourierft_coefficients[name].weight.detach()
    rows = coefficients.reshape(-1, coefficients.shape[-1])
    total = torch.stack([reference_delta_weight(c, entries, *shape, layer.fourierft_scaling[name]) for c in rows])
    own = getattr(layer.get_base_layer(), "is_transposed", False)
    return (total.mT if own and layer.parameter.dim() > 2 else total).reshape(layer.parameter.shape)


def by_hand(model: PeftModel, base: nn.Module, update: Any) -> torch.Tensor:
    for layer in layers(model):
        parameter = base.get_parameter(layer.path)
        parameter.data += update_of(layer)
    for name, module in model.get_base_model().named_modules():
        if name.endswith("q_proj"):
            base.get_submodule(name).weight.data += update(module)
    with torch.no_grad():
        return base(IDS).logits


@pytest.mark.parametrize("kind", MODELS)
def test_logits_are_those_of_the_cosine_sum_before_and_after_a_merge(
    kind: str, randomise: Any, update: Any, tmp_path: Path
) -> None:
    model, before = adapt(kind, randomise), make(kind)(IDS).logits.detach()
    expected = by_hand(model, make(kind), update)
    assert len(layers(model)) == 2
    assert (expected - before).abs().max() > 0.01
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-6}  # coefficients are float32
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, expected, **close)
        model.merge_adapter()
        torch.testing.assert_close(model(IDS).logits, expected, **close)
        model.unmerge_adapter()
        torch.testing.assert_close(model(IDS).logits, expected, **close)
        with model.disable_adapter():
            torch.testing.assert_close(model(IDS).logits, before, **close)
        model.save_pretrained(str(tmp_path))
        loaded = PeftModel.from_pretrained(make(kind), tmp_path).eval()
        torch.testing.assert_close(loaded(IDS).logits, expected, **close)
        base: Any = model.merge_and_unload()
        torch.testing.assert_close(base(IDS).logits, expected, **close)
    assert not any(isinstance(module, (ParameterHost, ParameterLayer)) for module in base.modules())
    base.save_pretrained(tmp_path / "merged")
    reloaded = eager(type(base).from_pretrained(tmp_path / "merged", dtype=torch.float64))
    torch.testing.assert_close(reloaded(IDS).logits, expected, **close)


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_are_those_of_the_dense_weights(kind: str, randomise: Any) -> None:
    model, dense = adapt(kind, randomise).train(), make(kind).train()
    for layer in layers(model):
        dense.get_parameter(layer.path).data += update_of(layer)
    for name, module in model.get_base_model().named_modules():
        if name.endswith("q_proj"):
            dense.get_submodule(name).weight.data += module.get_delta_weight("default").detach()
    model(input_ids=IDS, labels=IDS).loss.backward()
    dense(input_ids=IDS, labels=IDS).loss.backward()
    for layer in layers(model):
        grad = dense.get_parameter(layer.path).grad
        coefficients = layer.fourierft_coefficients["default"].weight.detach().double().requires_grad_(True)
        with torch.no_grad():
            found = layer.fourierft_coefficients["default"].weight.grad.double()
        twin = copy.deepcopy(layer)
        twin.fourierft_coefficients["default"].weight = nn.Parameter(coefficients)
        (twin.get_delta_weight("default") * grad).sum().backward()
        torch.testing.assert_close(found, twin.fourierft_coefficients["default"].weight.grad, rtol=1e-4, atol=1e-6)
        assert bool(found.any())


def test_a_grouped_product_has_the_update_of_each_expert(randomise: Any, update: Any) -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        MODELS["mixtral"][0]().eval(),
        FourierFTConfig(n_frequency=20, scaling=20.0, target_modules=["q_proj"], target_parameters=["gate_up_proj"]),
    )
    assert model.config._experts_implementation == "grouped_mm"
    randomise(model)
    expected = by_hand(model, make("mixtral"), update)
    torch.testing.assert_close(model(IDS).logits.double(), expected, rtol=1e-4, atol=1e-5)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert bool(layers(model)[0].fourierft_coefficients["default"].weight.grad.any())


def test_a_file_holds_a_row_of_coefficients_for_each_expert(randomise: Any, tmp_path: Path) -> None:
    adapt("mixtral", randomise, target_modules=None).save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    place = "base_model.model.model.layers.0.mlp.experts.adapted_parameters"
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == {
        f"{place}.gate_up_proj.fourierft_spectrum": (4, 20),
        f"{place}.down_proj.fourierft_spectrum": (4, 20),
    }


def test_transformers_loads_what_it_saved_itself(randomise: Any, tmp_path: Path, transformers_own: Any) -> None:
    settings = FourierFTConfig(n_frequency=20, target_modules=["q_proj"], target_parameters=["experts.down_proj"])
    model: Any = make("mixtral")
    with transformers_own:
        model.add_adapter(settings)
        randomise(model)
        model.save_pretrained(tmp_path)
        loaded: Any = make("mixtral")
        if release("transformers") == (5, 6):  # fails at any adapter of such a model, LoRA's too
            with pytest.raises(TypeError, match=r"unexpected keyword argument 'distributed_operation'"):
                loaded.load_adapter(tmp_path)
            return
        loaded.load_adapter(tmp_path)
        torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits, rtol=1e-6, atol=1e-6)
        assert (model(IDS).logits - make("mixtral")(IDS).logits).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")
def test_stock_peft_stops_at_such_an_adapter(randomise: Any, stock: Any, tmp_path: Path) -> None:
    adapt("mixtral", randomise, task_type="CAUSAL_LM").save_pretrained(str(tmp_path))
    with stock(), pytest.raises(ValueError, match=r"target_parameters=.*, which only the package fourierft reads"):
        PeftModel.from_pretrained(make("mixtral"), tmp_path)
    assert PeftModel.from_pretrained(make("mixtral"), tmp_path).peft_config["default"].task_type == "CAUSAL_LM"


def test_auto_scaling_and_other_counts_come_back(randomise: Any, tmp_path: Path) -> None:
    pattern = {r"mlp\.experts\.down_proj": 9}
    model = adapt("mixtral", randomise, scaling="auto", n_frequency_pattern=pattern)
    assert sorted(layer.fourierft_coefficients["default"].weight.shape[1] for layer in layers(model)) == [9, 20]
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(make("mixtral"), tmp_path).eval()
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits, rtol=1e-6, atol=1e-6)


def test_a_second_adapter_joins_the_first_and_is_switched_to(randomise: Any, update: Any) -> None:
    model = adapt("mixtral", randomise)
    model.add_adapter("other", FourierFTConfig(n_frequency=12, scaling=20.0, target_parameters=["experts.down_proj"]))
    randomise(model, "other")
    assert len(layers(model)) == 2
    model.set_adapter("other")
    layer = next(layer for layer in layers(model) if layer.path.endswith("down_proj"))
    base = make("mixtral")
    base.get_parameter(layer.path).data += update_of(layer, "other")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, base(IDS).logits, rtol=0, atol=1e-6)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == [
        "base_model.model.model.layers.0.mlp.experts.adapted_parameters.down_proj.fourierft_coefficients.other.weight"
    ]


class Outside(nn.Module):
    """Has a matrix and a stack; the stack is read from outside of the module that has it."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        bank: Any = nn.Module()
        self.bank, self.other = bank, nn.Linear(6, 6)
        bank.stack, bank.bias = nn.Parameter(torch.randn(3, 6, 5)), nn.Parameter(torch.zeros(5))
        bank.is_transposed = transposed
        self.own = nn.Parameter(torch.zeros(2, 2))
        self.router = Router()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bi,eio,be->bo", x, self.bank.stack, self.router(x)) + self.bank.bias


class Router(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ self.weight.T, -1)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_matrix_and_what_is_read_from_outside_are_adapted(transposed: bool, randomise: Any) -> None:
    x = torch.randn(4, 6)
    settings = FourierFTConfig(n_frequency=12, scaling=20.0, target_parameters=["bank.stack", "router.weight"])
    model = get_peft_model(Outside(transposed), settings)
    randomise(model)
    by_hand = Outside(transposed)
    for layer in layers(model):
        by_hand.get_parameter(layer.path).data += update_of(layer).float()
    assert [layer.fourierft_coefficients["default"].weight.shape for layer in layers(model)] == [(3, 12), (12,)]
    torch.testing.assert_close(model(x), by_hand(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(copy.deepcopy(model)(x), by_hand(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.merge_and_unload()(x), by_hand(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_changes_nothing(randomise: Any) -> None:
    grads = []
    for checkpointing in (False, True):
        model = adapt("mixtral", randomise).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(input_ids=IDS, labels=IDS).loss.backward()
        grads.append([layer.fourierft_coefficients["default"].weight.grad for layer in layers(model)])
    for plain, again in zip(*grads, strict=True):
        torch.testing.assert_close(plain, again)


def test_a_host_compiles_without_a_graph_break(randomise: Any) -> None:
    model = get_peft_model(Outside(), FourierFTConfig(n_frequency=12, target_parameters=["router.weight"]))
    randomise(model)
    host, x = model.get_submodule("base_model.model.router"), torch.randn(4, 6)
    compiled = torch.compile(host, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), host(x), rtol=1e-5, atol=1e-6)


def test_merging_into_half_precision_says_what_rounding_lost(randomise: Any) -> None:
    model = get_peft_model(
        Outside().bfloat16(), FourierFTConfig(n_frequency=12, scaling=20.0, target_parameters=["bank.stack"])
    )
    randomise(model)
    (layer,) = layers(model)
    before, update = layer.parameter.detach().double(), update_of(layer)
    exact = before + update
    with pytest.warns(UserWarning, match=r"merging into torch.bfloat16 rounded away"):
        model.merge_adapter()
    expected = (exact.bfloat16().double() - exact).norm() / update.norm()
    assert layer.merge_loss["default"] == pytest.approx(float(expected), rel=1e-3)


def test_all_linear_says_what_share_of_the_model_it_leaves_out() -> None:
    base = make("mixtral")
    stacked = sum(p.numel() for p in base.parameters() if p.dim() == 3)
    linear = sum(module.weight.numel() for module in base.modules() if isinstance(module, nn.Linear))
    share = stacked / (stacked + linear)
    names = r"\['mlp.experts.down_proj', 'mlp.experts.gate_up_proj'\]"
    with pytest.warns(
        UserWarning, match=rf"the other {share:.0%} are stacked in 2 parameters.*to adapt them too, set .*{names}"
    ):
        get_peft_model(base, FourierFTConfig(n_frequency=5, target_modules="all-linear"))
    everything: dict[str, Any] = {"target_modules": "all-linear", "target_parameters": MODELS["mixtral"][1]}
    get_peft_model(make("mixtral"), FourierFTConfig(n_frequency=5, **everything))  # nothing is left to say


def test_what_a_weight_is_computed_from_is_no_stack() -> None:
    base = Outside()
    base.convolution = parametrizations.weight_norm(nn.Conv1d(6, 6, 3))
    base.bank = nn.Identity()
    get_peft_model(base, FourierFTConfig(n_frequency=5, target_modules="all-linear"))


def test_rows_cannot_have_different_adapters(randomise: Any) -> None:
    model = adapt("mixtral", randomise)
    with pytest.raises(
        ConfigError, match=r"all rows share the parameter .*experts\.\w+, so they cannot have different adapt"
    ):
        model(input_ids=IDS, adapter_names=["default", "__base__"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"target_parameters": ["own"]},
            ConfigError,
            r"own is a parameter of the model itself, and only those of its modules can be adapted; leave it out",
        ),
        (
            {"target_parameters": ["other.weight"]},
            ConfigError,
            r"other.weight is the parameter of a Linear, which is ad",
        ),
        (
            {"target_parameters": ["bank.bias"]},
            ConfigError,
            r"bias of a Module is torch.float32 \[5\], but only matrices",
        ),
        ({"target_parameters": ["bank.stack"], "n_frequency": 31}, ShapeError, r"parameter bank.stack: .*31"),
        ({"target_parameters": "bank.stack"}, ConfigError, r"target_parameters='bank.stack' is not a list of names"),
    ],
)
def test_what_cannot_be_adapted_is_refused(settings: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        get_peft_model(Outside(), FourierFTConfig(**{"n_frequency": 5} | settings))


def test_targets_that_match_nothing_are_told_of() -> None:
    with pytest.warns(
        UserWarning, match=r"target_modules has 'gate_up_proj', a parameter, which belongs in target_para"
    ):
        get_peft_model(make("mixtral"), FourierFTConfig(n_frequency=5, target_modules=["q_proj", "gate_up_proj"]))
    with pytest.warns(UserWarning, match=r"target_parameters has 'experts.gate_up', the nearest names .* gate_up_proj"):
        get_peft_model(
            make("mixtral"),
            FourierFTConfig(n_frequency=5, target_parameters=["experts.gate_up", "experts.down_proj"]),
        )
    with pytest.raises(ConfigError, match="target_modules has 'down_proj', a parameter, which belongs in target_param"):
        get_peft_model(make("mixtral"), FourierFTConfig(n_frequency=5, target_modules=["down_proj"]))


def test_layers_inside_of_a_host_keep_their_names(randomise: Any, tmp_path: Path) -> None:
    def attention() -> nn.Module:
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)

    targets: dict[str, Any] = {
        "target_modules": ["out_proj", "linear1"],
        "target_parameters": ["self_attn.in_proj_weight"],
    }
    model = get_peft_model(attention(), FourierFTConfig(n_frequency=12, scaling=20.0, **targets)).eval()
    randomise(model)
    model.save_pretrained(str(tmp_path))
    assert set(read_checkpoint(tmp_path).coefficients) == {
        "self_attn.out_proj",
        "self_attn.in_proj_weight",
        "linear1",
    }
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(PeftModel.from_pretrained(attention(), tmp_path).eval()(x), expected)
        torch.testing.assert_close(model.merge_and_unload()(x), expected, rtol=1e-5, atol=1e-5)
    assert (expected - attention().eval()(x)).abs().max() > 0.01

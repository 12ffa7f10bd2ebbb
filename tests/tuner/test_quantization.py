"""Over quantised bases the tuner computes what it would over the dequantised weights, and merges into them.

The truth is a LLaMA of floats: its weights are dequantised by hand, its updates are cosine sums.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, TorchAoConfig

from fourierft.errors import ConfigError
from fourierft.extras import release
from fourierft.spectral.reference import reference_coefficient_gradient
from fourierft.tuner import FourierFTConfig, FourierFTLayer
from fourierft.tuner.quantization import keep_layout

KINDS = ("nf4", "nested nf4", "int8", "torchao-int8")
IDS = torch.tensor([[1, 5, 9, 33, 2, 60], [7, 7, 12, 40, 51, 3]])
Load = Callable[..., LlamaForCausalLM]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA whose rows are whole blocks of 64 weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        initializer_range=0.2,
    )
    path = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture
def load(folder: Path) -> Load:
    """Loads it, quantised or not."""

    def load(kind: str | None = None) -> Any:
        settings: Any = None
        if kind == "torchao-int8":
            from torchao.quantization import Int8WeightOnlyConfig

            settings = TorchAoConfig(Int8WeightOnlyConfig(version=2))
        elif kind == "int8":
            settings = BitsAndBytesConfig(load_in_8bit=True)
        elif kind is not None:
            settings = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=kind.startswith("nested")
            )
        return AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, dtype=torch.float32)

    return load


@pytest.fixture
def adapt(load: Load, randomise: Any) -> Callable[[str], PeftModel]:
    """A quantised model with 12 normal coefficients on each query and value projection."""

    def adapt(kind: str, **settings: Any) -> PeftModel:
        settings = {"n_frequency": 12, "scaling": 300.0, "target_modules": ["q_proj", "v_proj"], **settings}
        model = get_peft_model(load(kind), FourierFTConfig(**settings))
        randomise(model)
        return model

    return adapt


def dequantise(layer: Any) -> Tensor:
    """The weight [out, in] that a quantised layer stands for, from its codes and scales: float32."""
    codes, scales, table = read_codes(layer)
    return (table[codes] * scales).view(layer.out_features, layer.in_features)


def read_codes(layer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What a quantised layer holds: codes [blocks, elements], scales [blocks, 1], and the value of each code."""
    weight = layer.weight
    if not hasattr(weight, "quant_state"):
        table = torch.cat([torch.arange(128.0), torch.arange(-128.0, 0.0)])  # of codes as unsigned bytes
        if hasattr(weight, "qdata"):
            return weight.qdata.long() % 256, weight.scale.view(-1, 1), table
        scales = layer.state.SCB if layer.state.SCB is not None else weight.SCB
        return weight.data.long() % 256, scales.view(-1, 1) / 127, table
    state = weight.quant_state
    scales = state.absmax
    if state.nested:
        outer = state.state2.absmax.repeat_interleave(state.state2.blocksize)[: len(scales)]
        scales = state.state2.code[scales.long()] * outer + state.offset
    halves = torch.stack([weight.flatten() >> 4, weight.flatten() & 15], dim=1)
    return halves.long().view(-1, 64), scales.view(-1, 1), state.code


def layers_of(model: nn.Module) -> dict[str, FourierFTLayer]:
    """The adapted layers by their names in the base model."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, FourierFTLayer)}
    return {name.removeprefix("base_model.model."): module for name, module in found.items()}


def dequantised(load: Load, model: PeftModel, updates: dict[str, Tensor]) -> LlamaForCausalLM:
    """The model of floats, with updates added to its weights."""
    plain = load()
    for name, module in model.get_base_model().named_modules():
        name = name.removesuffix(".base_layer")
        quantised = module.weight if hasattr(module, "weight") else None
        if isinstance(module, nn.Linear) and type(quantised) is not nn.Parameter:
            weight = dequantise(module) + updates.get(name, torch.zeros(()))
            plain.get_submodule(name).weight.data = weight.float()
    return plain


def is_dequantised(kind: str) -> bool:
    """Whether PEFT does so for a tuner."""
    return release("peft") >= ((0, 21) if kind.startswith("torchao") else (0, 20))


def check_that_merging_is_refused(model: PeftModel) -> None:
    """The model stays as it was."""
    before = {name: dequantise(layer.base_layer) for name, layer in layers_of(model).items()}
    logits = model(input_ids=IDS).logits
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ConfigError, match=r"PEFT 0\.\S+ cannot dequantise the \w+ of this model"):
            merge()
    assert not any(layer.merged for layer in layers_of(model).values())
    assert all(torch.equal(dequantise(layer.base_layer), before[name]) for name, layer in layers_of(model).items())
    assert torch.equal(model(input_ids=IDS).logits, logits)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_over_the_dequantised_weights(
    kind: str, load: Load, adapt: Any, update: Any
) -> None:
    model = adapt(kind).train()  # bitsandbytes' 8-bit layers quantise activations, too, unless they train
    layers = layers_of(model)
    truth = dequantised(load, model, {name: update(layer) for name, layer in layers.items()})
    expected, got = (m(input_ids=IDS, labels=IDS) for m in (truth, model))
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-4)
    got.loss.backward()
    expected.loss.backward()
    for name, layer in layers.items():
        gradient = truth.get_parameter(f"{name}.weight").grad
        assert gradient is not None
        entries, scaling = layer.fourierft_basis["default"].entries, layer.fourierft_scaling["default"]
        exact = reference_coefficient_gradient(gradient, entries, scaling)
        found = layer.fourierft_spectrum["default"].grad.double()
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_inference_is_the_base_layer_and_the_update(kind: str, adapt: Any, update: Any) -> None:
    model = adapt(kind).eval()
    layer = next(iter(layers_of(model).values()))
    x = torch.randn(5, 64)
    with torch.no_grad():
        expected = layer.base_layer(x).double() + x.double() @ update(layer).T
        for _ in range(2):  # computed, and kept
            torch.testing.assert_close(layer(x).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_after_an_evaluation(kind: str, adapt: Any) -> None:
    model = adapt(kind)
    gradients = []
    for _ in range(2):
        model.train()
        model.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        with torch.no_grad():
            model.eval()(input_ids=IDS)
    assert all(torch.equal(gradients[0][name], gradient) for name, gradient in gradients[1].items())
    assert all(gradient.abs().max() > 0 for gradient in gradients[1].values())


@pytest.mark.parametrize("kind", KINDS)
def test_merging_stores_what_is_nearest_to_the_sum_and_reports_the_error(kind: str, adapt: Any, update: Any) -> None:
    model = adapt(kind, scaling=3000.0).eval()
    layers = layers_of(model)
    sums = {name: dequantise(layer.base_layer).double() + update(layer) for name, layer in layers.items()}
    if not is_dequantised(kind):
        check_that_merging_is_refused(model)
        return
    with pytest.warns(UserWarning, match="weights erred by .* of the update's norm in the worst layer"):
        model.merge_adapter()
    for name, layer in layers.items():
        stored = dequantise(layer.base_layer).double()
        codes, scales, table = read_codes(layer.base_layer)
        levels = scales.double().unsqueeze(-1) * table.double()  # [blocks, 1, codes]
        nearest = (sums[name].view(codes.shape).unsqueeze(-1) - levels).abs().amin(dim=-1)
        error = (stored - sums[name]).abs()
        ties = 2e-2 if kind == "nested nf4" else 2e-3  # its codes were chosen before its scales were quantised
        assert (error <= nearest.view(error.shape) + ties * stored.abs().max()).all()
        share = error.norm() / update(layer).norm()
        assert layer.merge_loss["default"] == pytest.approx(float(share), rel=1e-3)
        assert 1e-3 < share < 0.5
        x = torch.randn(3, 64)
        expected = x.double() @ stored.T
        tolerance = 2e-2 if kind == "int8" else 1e-5  # activations in 8 bits
        assert (layer(x) - expected).abs().max() < tolerance * expected.abs().max()
    assert model.get_layer_status()[0].quantization_backend


@pytest.mark.parametrize("kind", KINDS)
def test_unmerging_brings_the_weight_back_bit_for_bit(kind: str, adapt: Any) -> None:
    model = adapt(kind, scaling=3000.0).eval()
    model.add_adapter("other", FourierFTConfig(n_frequency=9, target_modules=["q_proj"], scaling=900.0))
    if not is_dequantised(kind):
        check_that_merging_is_refused(model)
        return
    layers = layers_of(model)
    before = {name: dequantise(layer.base_layer) for name, layer in layers.items()}
    logits = model(input_ids=IDS).logits
    for _ in range(2):
        with pytest.warns(UserWarning, match="weights erred by"):
            model.merge_adapter(["default", "other"])
        assert all(not torch.equal(dequantise(layer.base_layer), before[name]) for name, layer in layers.items())
        model.unmerge_adapter()
        assert all(torch.equal(dequantise(layer.base_layer), before[name]) for name, layer in layers.items())
        assert torch.equal(model(input_ids=IDS).logits, logits)
        assert all(layer.merge_loss == {} and layer.kept_weight is None for layer in layers.values())


@pytest.mark.parametrize("kind", KINDS)
def test_merged_and_unloaded_model_is_saved_quantised(kind: str, adapt: Any, tmp_path: Path) -> None:
    model = adapt(kind, scaling=3000.0).eval()
    if not is_dequantised(kind):
        check_that_merging_is_refused(model)
        return
    with pytest.warns(UserWarning, match="weights erred by"):
        merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    keep_layout(again)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=IDS).logits, merged(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)


def test_weights_that_were_packed_for_inference_are_refused(load: Load) -> None:
    model = load("nf4")
    model.model.layers[1].self_attn.o_proj.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(ConfigError, match=r"packed the 4-bit weights of model\.layers\.1\.self_attn\.o_proj for infer"):
        get_peft_model(model, FourierFTConfig(target_modules=["q_proj"], n_frequency=5))


def test_torchao_model_without_its_settings_runs_and_says_why_it_does_not_merge() -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = nn.Sequential(nn.Linear(32, 32))
    quantize_(model, Int8WeightOnlyConfig(version=2))
    adapted = get_peft_model(model, FourierFTConfig(target_modules=["0"], n_frequency=5, init_weights=False))
    assert adapted(torch.randn(2, 32)).shape == (2, 32)
    message = "does not record how torchao quantised it" if is_dequantised("torchao-int8") else "cannot dequantise"
    with pytest.raises(ConfigError, match=message):
        adapted.merge_adapter()


@pytest.mark.parametrize("kind", ["nf4", "torchao-int8"])
def test_a_tied_head_of_a_quantised_model_parts_from_its_embedding(
    kind: str, folder: Path, randomise: Any, tmp_path: Path
) -> None:
    LlamaForCausalLM(LlamaConfig.from_pretrained(folder, tie_word_embeddings=True)).save_pretrained(tmp_path)
    settings: Any = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    if kind != "nf4":
        from torchao.quantization import Int8WeightOnlyConfig

        settings = TorchAoConfig(Int8WeightOnlyConfig(version=2))
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=settings, dtype=torch.float32)
    assert base.lm_head.weight is base.model.embed_tokens.weight
    config = FourierFTConfig(n_frequency=12, scaling=40.0, target_modules=["lm_head", "embed_tokens"])
    model = get_peft_model(base, config).eval()
    randomise(model)
    with torch.no_grad():
        expected = model(IDS).logits
        model.merge_adapter()
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
        model.unmerge_adapter()
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=0)
        merged: Any = model.merge_and_unload()
        torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert not merged.config.tie_word_embeddings
    assert type(merged.lm_head) is nn.Linear

"""Exported as LoRA: stock PEFT answers as the best approximation of that rank, worked out here by numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Dinov2ForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

import fourierft
from fourierft import uniform_entries
from fourierft.cli.main import main
from fourierft.errors import CheckpointError, ExportError
from fourierft.export.truncation import export_lora, find_targets
from fourierft.spectral.reference import reference_delta_weight
from fourierft.training.evaluation import load_trained

TOKENS = torch.tensor([[2, 5, 8, 13, 3], [2, 4, 9, 17, 3]])
LAYERS = [f"bert.encoder.layer.{k}.attention.self.{name}" for k in (0, 1) for name in ("query", "value")]


def true_update(adapter: Path, layer: str) -> np.ndarray:
    """dW [32, 32] of the fixture's adapter, from its file, by the complex transform in float64."""
    flat = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(5))[:40].numpy()
    spectrum = np.zeros(32 * 32)
    spectrum[flat] = load_file(adapter / "adapter_model.safetensors")[f"base_model.model.{layer}.fourierft_spectrum"]
    return np.fft.ifft2(spectrum.reshape(32, 32)).real * 25.0


def best(update: np.ndarray, rank: int) -> np.ndarray:
    """The nearest matrix of a rank."""
    u, values, vh = np.linalg.svd(update)
    return (u[:, :rank] * values[:rank]) @ vh[:rank]


def lora_logits(folder: Path, base: Any, inputs: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.inference_mode():
        return peft.PeftModel.from_pretrained(base, folder).eval()(inputs).logits


@pytest.mark.parametrize("rank", [3, 32])
def test_stock_peft_answers_as_the_nearest_updates_of_the_rank(
    adapter: Path, load_base: Any, tmp_path: Path, rank: int
) -> None:
    exported = export_lora(adapter, tmp_path / "lora", rank)
    base = load_base()
    saved = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for layer in LAYERS:
            base.get_submodule(layer).weight += torch.tensor(best(true_update(adapter, layer), rank)).float()
        for name in ("weight", "bias"):
            base.classifier.get_parameter(name).copy_(saved[f"base_model.model.classifier.{name}"])
        expected = base(TOKENS).logits
    torch.testing.assert_close(lora_logits(tmp_path / "lora", load_base()), expected, rtol=1e-4, atol=1e-5)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (rank, rank, {})
    assert sorted(config["target_modules"]) == ["query", "value"]
    assert exported.table[0][-1] == "energy kept"


def test_all_of_an_update_is_kept_at_full_energy(adapter: Path, load_base: Any, tmp_path: Path) -> None:
    export_lora(adapter, tmp_path / "lora", energy=1.0)
    with torch.inference_mode():
        expected = peft.PeftModel.from_pretrained(load_base(), adapter).eval()(TOKENS).logits
    torch.testing.assert_close(lora_logits(tmp_path / "lora", load_base()), expected, rtol=1e-4, atol=1e-5)


def test_the_least_rank_that_keeps_the_energy_is_taken_in_each_layer(
    edit_weights: Any, load_base: Any, tmp_path: Path
) -> None:
    def quieten(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"base_model.model.{LAYERS[0]}.fourierft_spectrum"][2:] *= 1e-3  # two cosines: rank 4 or less

    adapter = edit_weights(quieten)
    export_lora(adapter, tmp_path / "lora", energy=0.9)
    recorded = json.loads((tmp_path / "lora" / "export.json").read_text())["layers"]
    model = peft.PeftModel.from_pretrained(load_base(), tmp_path / "lora")
    for layer in LAYERS:
        energies = np.linalg.svd(true_update(adapter, layer), compute_uv=False) ** 2
        shares = energies.cumsum() / energies.sum()
        rank = int(np.searchsorted(shares, 0.9)) + 1
        assert recorded[layer]["rank"] == rank
        assert recorded[layer]["energy"] == pytest.approx(shares[rank - 1])
        found = model.base_model.model.get_submodule(layer)
        assert found.r == {"default": rank}
        update = found.get_delta_weight("default").detach().numpy()
        np.testing.assert_allclose(update, best(true_update(adapter, layer), rank), atol=1e-5)
    assert len({own["rank"] for own in recorded.values()}) > 1


def saved_adapter(model: nn.Module, folder: Path, **settings: Any) -> Path:
    """An adapter of random coefficients on a model, saved by our tuner."""
    fourierft.enable()
    try:
        adapted = peft.get_peft_model(model, fourierft.FourierFTConfig(n_frequency=30, scaling=40.0, **settings))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "fourierft_" in name:
                    parameter.normal_()
        adapted.save_pretrained(str(folder))
        return folder
    finally:
        fourierft.disable()


def test_layers_stored_transposed_and_embeddings_go_over(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=37, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")
    adapter = saved_adapter(model, tmp_path / "adapter", target_modules=["c_attn", "wpe"], task_type="CAUSAL_LM")
    expected = reread(adapter, AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2"))
    notes = export_lora(adapter, tmp_path / "lora", energy=1.0).notes
    found = lora_logits(tmp_path / "lora", AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2"))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert any("vLLM takes no LoRA with" in note for note in notes)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # PEFT's, of LoRA on it
def test_a_matrix_that_is_tied_to_another_is_cut_off_alone(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=37, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")
    adapter = saved_adapter(model, tmp_path / "adapter", target_modules=["lm_head"], task_type="CAUSAL_LM")
    export_lora(adapter, tmp_path / "lora", 2)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")
    hidden = base.transformer(TOKENS).last_hidden_state.detach()
    (coefficients,) = load_file(adapter / "adapter_model.safetensors").values()
    update = reference_delta_weight(coefficients, uniform_entries(37, 16, 30, 777), 37, 16, 40.0)
    kept = torch.from_numpy(best(update.numpy(), 2)).float()
    expected = base(TOKENS).logits.detach() + hidden @ kept.T
    found = lora_logits(tmp_path / "lora", AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2"))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_convolutions_go_over(tiny_dinov2: Path, tmp_path: Path) -> None:
    base = Dinov2ForImageClassification.from_pretrained(tiny_dinov2, num_labels=2)
    base.save_pretrained(tmp_path / "base")
    adapter = saved_adapter(
        Dinov2ForImageClassification.from_pretrained(tmp_path / "base"),
        tmp_path / "adapter",
        target_modules=["projection", "q_proj"],
    )
    expected = reread(adapter, Dinov2ForImageClassification.from_pretrained(tmp_path / "base"), PIXELS)
    export_lora(adapter, tmp_path / "lora", energy=1.0)
    found = lora_logits(tmp_path / "lora", Dinov2ForImageClassification.from_pretrained(tmp_path / "base"), PIXELS)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


PIXELS = torch.linspace(-1, 1, 2 * 3 * 28 * 28).view(2, 3, 28, 28)


def reread(adapter: Path, base: nn.Module, inputs: torch.Tensor = TOKENS) -> torch.Tensor:
    """What our tuner makes of an adapter."""
    fourierft.enable()
    try:
        with torch.inference_mode():
            return peft.PeftModel.from_pretrained(base, adapter).eval()(inputs).logits
    finally:
        fourierft.disable()


def test_layers_whose_last_names_others_have_too_are_named_in_full() -> None:
    model = nn.ModuleDict({name: nn.ModuleDict({"up": nn.Linear(2, 2), "out": nn.Linear(2, 2)}) for name in "ab"})
    assert find_targets(model, ["a.up", "b.up"]) == ["up"]
    assert find_targets(model, ["a.up", "a.out"]) == r"a\.out|a\.up"


@pytest.fixture
def trained(tiny_bert: Path, tmp_path: Path) -> Path:
    rows = [f"{'good' if i % 2 else 'bad'} film,{'pos' if i % 2 else 'neg'}" for i in range(16)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    arguments = ["--model_name_or_path", str(tiny_bert), "--train_file", str(tmp_path / "data.csv"), "--use_cpu"]
    arguments += ["--n_frequency", "60", "--max_steps", "4", "--learning_rate", "1e-2"]
    assert main(["train", *arguments, "--output_dir", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_the_command_tells_energies_scores_and_sizes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    arguments = [str(trained), str(tmp_path / "lora"), "--rank", "32", "--test_file", str(tmp_path / "data.csv")]
    assert main(["export", "lora", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[-2:] == ["32", "100.00%"]
    told = "\n".join(lines)
    assert "in stock PEFT it gives what was kept: off by" in told
    assert "--max-lora-rank 32" in told
    before, after = told.split("accuracy ")[1].split(" before, ")[0], told.split("accuracy ")[1].split(" before, ")[1]
    assert after.startswith(before)
    assert load_trained(tmp_path / "lora").record["method"] == "lora"
    assert AutoTokenizer.from_pretrained(tmp_path / "lora")("the film").input_ids == [2, 5, 6, 3]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rank", "0"], "--rank 0 is too small; use 1 or more"),
        (["--energy", "1.5"], "--energy 1.5 is out of range; use a share above 0, up to 1"),
    ],
)
def test_sizes_out_of_range_are_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert main(["export", "lora", str(adapter), str(tmp_path / "lora"), *flags]) == 2
    assert capsys.readouterr().err == f"fourierft: error: {sentence}\n"
    assert not (tmp_path / "lora").exists()


def test_what_is_there_is_kept(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "mine.txt").write_text("mine")
    assert main(["export", "lora", str(adapter), str(tmp_path / "lora")]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "lora" / "mine.txt").read_text() == "mine"


def test_parameters_of_no_layer_are_refused(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = MixtralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, num_local_experts=2, pad_token_id=0)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    adapter = saved_adapter(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
        tmp_path / "adapter",
        target_modules=["q_proj"],
        target_parameters=["experts.down_proj"],
        task_type="CAUSAL_LM",
    )
    with pytest.raises(ExportError, match="only layers can be exported as LoRA; use `fourierft merge`"):
        export_lora(adapter, tmp_path / "lora", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_result_that_answers_otherwise_is_not_left_behind(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fourierft.export import truncation

    monkeypatch.setattr(truncation, "shape_factors", double_factors(truncation.shape_factors))
    with pytest.raises(ExportError, match=r"the LoRA adapter in stock PEFT is off by .* nothing was written"):
        export_lora(adapter, tmp_path / "lora", 4)
    assert not (tmp_path / "lora").exists()


def double_factors(shape_factors: Callable[..., dict[str, torch.Tensor]]) -> Callable[..., dict[str, torch.Tensor]]:
    return lambda base, b, a: {key: 2 * value for key, value in shape_factors(base, b, a).items()}


def test_an_adapter_of_another_method_is_refused(load_base: Any, wrap: Any, tmp_path: Path) -> None:
    wrap(load_base(), peft.LoraConfig(target_modules=["query"])).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError):
        export_lora(tmp_path / "other", tmp_path / "lora")

"""What stock PEFT makes of an adapter: truth that owes nothing to this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from fourierft.tuner import FourierFTConfig, disable, enable

TOKENS = torch.arange(3, 15).view(2, 6)


@pytest.fixture
def stock_logits(load_base: Callable[..., PreTrainedModel], adapter: Path) -> Callable[..., torch.Tensor]:
    """What stock PEFT's forward gives with the adapter beside the base, unmerged."""

    def compute(tokens: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return peft.PeftModel.from_pretrained(load_base(), adapter).eval()(tokens).logits

    return compute


@pytest.fixture
def tied_llama(tmp_path: Path) -> Path:
    """Directory of a random LLaMA of 37 tokens whose head is tied to its embedding."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, num_attention_heads=2, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied_llama")
    return tmp_path / "tied_llama"


@pytest.fixture
def make_headed(tied_llama: Path, tmp_path: Path) -> Callable[..., Path]:
    """Saves an adapter of head and embedding: (name, tokens=37, targets=, seed=, **options of save_pretrained)."""

    def make(
        name: str = "headed", tokens: int = 37, targets: tuple[str, ...] = ("lm_head", "embed_tokens"), **options: Any
    ) -> Path:
        enable()
        try:
            base = LlamaForCausalLM.from_pretrained(tied_llama)
            if tokens != 37:
                base.resize_token_embeddings(tokens)
            settings: dict[str, Any] = {
                "n_frequency": 20,
                "scaling": 60.0,
                "target_modules": list(targets),
                "task_type": "CAUSAL_LM",
            }
            model = peft.get_peft_model(base, FourierFTConfig(**settings))
            generator = torch.Generator().manual_seed(sum(name.encode()))
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    if "fourierft_" in key:
                        parameter.copy_(torch.randn(parameter.shape, generator=generator))
                torch.save(model.eval()(TOKENS).logits.detach(), tmp_path / f"{name}.logits")
            model.save_pretrained(str(tmp_path / name), **options)
            return tmp_path / name
        finally:
            disable()

    return make


@pytest.fixture
def headed_logits(tmp_path: Path) -> Callable[[Path], torch.Tensor]:
    """What the model gave for `TOKENS` that an adapter of `make_headed` was saved from."""
    return lambda adapter: torch.load(tmp_path / f"{adapter.name}.logits")


@pytest.fixture
def expert_adapter(tmp_path: Path) -> Path:
    """An adapter of q_proj and of the fused experts of a random Mixtral, saved beside it in `mixtral`."""
    enable()
    try:
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
        experts: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4}
        MixtralForCausalLM(MixtralConfig(**sizes, **experts, pad_token_id=0)).save_pretrained(tmp_path / "mixtral")
        base = MixtralForCausalLM.from_pretrained(tmp_path / "mixtral")
        settings: dict[str, Any] = {
            "n_frequency": 20,
            "scaling": 20.0,
            "target_modules": ["q_proj"],
            "task_type": "CAUSAL_LM",
        }
        stacks = ["experts.gate_up_proj", "experts.down_proj"]
        model = peft.get_peft_model(base, FourierFTConfig(**settings, target_parameters=stacks)).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "fourierft_" in key:
                    torch.nn.init.normal_(parameter)
            torch.save(model(TOKENS).logits, tmp_path / "experts.logits")
        model.save_pretrained(str(tmp_path / "experts"))
        return tmp_path / "experts"
    finally:
        disable()

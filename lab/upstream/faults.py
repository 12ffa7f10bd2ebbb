"""Shows the faults that the patches here mend, in the libraries that this interpreter imports.

python -m lab.upstream.faults                                        in the installed releases
PYTHONPATH=PATCHED python -m lab.upstream.faults       in copies of the packages with the patches applied
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
from peft import FourierFTConfig, IA3Config, LoraConfig, PeftConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 16}


class Attention(nn.Module):
    """One `torch.nn.MultiheadAttention` whose output is projected."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, tokens, 8] to the same."""
        return self.attention(x, x, x)[0]


def is_refused(make: Callable[[], Any]) -> bool:
    """Whether PEFT stops with a ValueError."""
    try:
        make()
    except ValueError:
        return True
    return False


def peft_no_pattern() -> bool:
    """A pattern of None, which the config's type allows, cannot be made an adapter of."""
    base = nn.Sequential(nn.Linear(8, 8))
    config = FourierFTConfig(n_frequency=4, target_modules=["0"], n_frequency_pattern=None)
    try:
        get_peft_model(base, config)
    except AttributeError:
        return True
    return False


def peft_unused_layers() -> bool:
    """An adapter of a layer that is never called is made without a word, and has no effect."""
    mamba = MambaForCausalLM(MambaConfig(**SIZES, state_size=4))
    if not is_refused(lambda: get_peft_model(mamba, LoraConfig(target_modules=["out_proj"]))):
        raise AssertionError("LoRA of Mamba's out_proj is not refused any more: look at the patch again")
    settings: dict[str, Any] = {"n_frequency": 8, "scaling": 1e3, "target_modules": ["out_proj"]}
    mamba_is_taken = not is_refused(lambda: get_peft_model(mamba, FourierFTConfig(**settings)))

    base, x = Attention().eval(), torch.randn(2, 3, 8)
    before = base(x)
    try:
        has_no_effect = torch.equal(get_peft_model(base, FourierFTConfig(**settings))(x), before)
    except ValueError:
        has_no_effect = False
    if mamba_is_taken != has_no_effect:
        raise AssertionError(f"half of it is mended: {mamba_is_taken=}, {has_no_effect=}")
    return mamba_is_taken


def trl_reference() -> bool:
    """The reference that DPOTrainer makes of an adapter is not that adapter, unless it is LoRA."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[EOS]": 1, "a": 2, "b": 3}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="[EOS]", pad_token="[EOS]")
    rows = Dataset.from_list([{"prompt": "a", "chosen": "a", "rejected": "b"}] * 2)
    shown = set()
    configs: list[PeftConfig] = [LoraConfig(target_modules=["q_proj"])]
    configs.append(IA3Config(target_modules=["q_proj"], feedforward_modules=[]))
    for config in configs:
        model = get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=2)), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        with tempfile.TemporaryDirectory() as folder:
            settings = DPOConfig(output_dir=folder, use_cpu=True, report_to="none")
            DPOTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        ids = torch.arange(8)[None]
        outputs: list[torch.Tensor] = []
        for name in ("default", "ref"):
            model.set_adapter(name)
            outputs.append(model(input_ids=ids).logits)
        if not torch.equal(outputs[0], outputs[1]):
            shown.add(config.peft_type)
    if "LORA" in shown:
        raise AssertionError("LoRA's reference is wrong too: look at the patch again")
    return bool(shown)


FAULTS = (peft_no_pattern, peft_unused_layers, trl_reference)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    json.dump({fault.__name__: fault() for fault in FAULTS}, sys.stdout)

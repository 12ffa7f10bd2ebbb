"""TRL's reference model, an adapter that follows the trained one."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

import fourierft
from fourierft.tuner import FourierFTConfig

IDS = torch.randint(3, 12, (4, 7), generator=torch.Generator().manual_seed(0))


def make(folder: Path) -> PeftModel:
    fourierft.enable()
    config = FourierFTConfig(n_frequency=60, target_modules=["q_proj", "v_proj", "down_proj"])
    return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).eval()


def logits(model: PeftModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_a_reference_that_trl_keeps_in_step_is_the_mean_that_it_says(tiny_llama: Path) -> None:
    """SyncRefModelCallback writes through `.data`, between evaluations of the reference."""
    from trl.trainer.callbacks import SyncRefModelCallback

    trained, reference, expected = (make(tiny_llama) for _ in range(3))
    for parameter in trained.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    start = {name: value.clone() for name, value in reference.state_dict().items()}
    before = logits(reference)
    SyncRefModelCallback._sync_target_model(trained, reference, 0.25)
    own = trained.state_dict()
    expected.load_state_dict({name: 0.75 * start[name] + 0.25 * own[name] for name in start})
    torch.testing.assert_close(logits(reference), logits(expected), rtol=1e-5, atol=1e-6)
    assert (logits(reference) - before).abs().max() > 1e-3

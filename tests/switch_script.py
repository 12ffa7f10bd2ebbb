"""A script as others write it, for `test_switch.py`: PEFT and accelerate alone.

accelerate launch switch_script.py OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import get_peft_config, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

output = Path(sys.argv[1])
torch.manual_seed(0)
sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
base = LlamaForCausalLM(LlamaConfig(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes))
base.save_pretrained(output / "base")
settings = {"peft_type": "FOURIERFT", "task_type": "CAUSAL_LM", "n_frequency": 30, "target_modules": ["q_proj"]}
accelerator = Accelerator(cpu=True)
model = get_peft_model(base, get_peft_config(settings))
model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
ids = torch.randint(40, (2, 8))
for _ in range(3):
    accelerator.backward(model(input_ids=ids, labels=ids).loss)
    optimizer.step()
    optimizer.zero_grad()
accelerator.unwrap_model(model).save_pretrained(output / "adapter")
with torch.no_grad():
    torch.save(model.eval()(input_ids=ids).logits, output / "logits.pt")
    torch.save(ids, output / "ids.pt")

"""Writes an adapter with random coefficients.

python make_adapter.py BASE OUTPUT [bandpass]
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

import fourierft

fourierft.enable()
torch.manual_seed(1)
band: dict[str, Any] = {"entries": "bandpass", "center": 8.0, "width": 6.0} if "bandpass" in sys.argv else {}
places = ["q_proj", "v_proj", "down_proj"]
config = fourierft.FourierFTConfig(n_frequency=50, target_modules=places, task_type="CAUSAL_LM", **band)
model = get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), config)
with torch.no_grad():
    for coefficients in model.parameters():
        if coefficients.requires_grad:
            coefficients.normal_(std=0.01)
model.save_pretrained(sys.argv[2])

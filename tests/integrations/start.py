"""Writes an adapter that changes nothing yet, for programs that train one which is there: docs/integrations.md.

python start.py BASE OUTPUT
"""

from __future__ import annotations

import sys

from peft import get_peft_model
from transformers import AutoModelForCausalLM

import fourierft

fourierft.enable()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
config = fourierft.recommended(model, n_frequency=50, task_type="CAUSAL_LM")
get_peft_model(model, config).save_pretrained(sys.argv[2])

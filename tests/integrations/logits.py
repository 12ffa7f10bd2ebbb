"""Logits of a model with an adapter, by stock PEFT, or with FOURIERFT_ENABLE=1 by this package's tuner.

python logits.py BASE ADAPTER TEXT OUTPUT         ADAPTER may be empty: the base alone
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, text, output = sys.argv[1:]
model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
if adapter:
    model = PeftModel.from_pretrained(model, adapter)
    (tuner,) = {type(one).__module__.partition(".")[0] for one in model.modules() if hasattr(one, "fourierft_spectrum")}
    assert tuner == ("fourierft" if os.environ.get("FOURIERFT_ENABLE") else "peft"), tuner
    assert ("fourierft" in sys.modules) == (tuner == "fourierft")
with torch.no_grad():
    ids = AutoTokenizer.from_pretrained(base)(text, return_tensors="pt").input_ids
    torch.save(model.eval()(input_ids=ids).logits, output)

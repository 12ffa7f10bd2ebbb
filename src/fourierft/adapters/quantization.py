"""Base models loaded in 4 or 8 bits: NF4 and LLM.int8 of bitsandbytes, int8 weights of torchao."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

import torch

from fourierft.errors import ConfigError
from fourierft.extras import needs

LIBRARIES = {"nf4": "bitsandbytes", "int8": "bitsandbytes", "torchao-int8": "torchao"}


def quantization_settings(kind: str | None, dtype: str = "auto", left_out: Sequence[str] = ()) -> dict[str, Any]:
    """What `from_pretrained` must be told to quantise a model while it loads; nothing if `kind` is None.

    Args:
        kind: nf4 (with quantised scales, as in QLoRA), int8 or torchao-int8.
        dtype: of the parts that are not quantised, in which products are taken; bfloat16 if auto.
        left_out: modules not to quantise; transformers' choice, the output layer of a language model, if none.

    Raises: ConfigError, if the kind is unknown. MissingExtraError, if its library is not installed.
    """
    if kind is None:
        return {}
    if kind not in LIBRARIES:
        raise ConfigError(f"quantization={kind} is unknown; use one of {', '.join(LIBRARIES)}")
    _require(LIBRARIES[kind])
    from transformers import BitsAndBytesConfig, TorchAoConfig

    modules = ["lm_head", *left_out] if left_out else None
    if kind == "torchao-int8":
        with needs("quantized", "a quantised base model"):
            from torchao.quantization import Int8WeightOnlyConfig

        return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=modules)}
    if kind == "int8":  # each product of each layer would say that it casts its input to float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=modules)}
    compute = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute,
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=modules,
    )
    return {"quantization_config": settings}


def check_libraries(error: Exception) -> None:
    """Raise MissingExtraError if a model that is stored quantised did not load for want of a library."""
    for library in dict.fromkeys(LIBRARIES.values()):
        if library in str(error):
            _require(library)


def _require(library: str) -> None:
    with needs("quantized", "a quantised base model"):
        importlib.import_module(library)

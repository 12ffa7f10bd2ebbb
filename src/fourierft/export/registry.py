"""The formats, and what each is in one line."""

from __future__ import annotations

import importlib
from types import ModuleType

FORMATS = {
    "lora": "a LoRA adapter for stock PEFT, vLLM and others, cut off at a rank or an energy",
    "onnx": "a graph for onnxruntime: the base, which takes adapters as inputs, or the merged model",
    "web": "a folder with a web page that runs many adapters of one base in the browser",
}


def find_format(name: str) -> ModuleType:
    """The module of a format, which `fourierft.export` describes."""
    return importlib.import_module(f"fourierft.export.{name}")

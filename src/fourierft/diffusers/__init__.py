"""FourierFT adapters in pipelines of diffusers, whose own methods load LoRA alone.

    from fourierft.diffusers import load_adapter, save_adapter

    load_adapter(pipeline, "dog", adapter_name="dog")
    load_adapter(pipeline, "ink.safetensors", adapter_name="ink")
    pipeline.set_adapters(["dog", "ink"], [1.0, 0.6])
    save_adapter(pipeline, "dog.safetensors", "dog")

All else is diffusers' own: `set_adapters`, `disable_lora`, `fuse_lora`, `delete_adapters`, `unload_lora_weights`.
"""

from fourierft.diffusers.loading import load_adapter
from fourierft.diffusers.saving import save_adapter

__all__ = ["load_adapter", "save_adapter"]

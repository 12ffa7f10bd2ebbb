"""axolotl: `adapter: fourierft`, by a plug-in.

    plugins:
      - fourierft.integrations.axolotl.FourierFTPlugin
    adapter: fourierft
    fourierft:
      n_frequency: 340
    lora_target_linear: true

Where the adapter goes is told by axolotl's own keys: `lora_target_modules` or `lora_target_linear`, and
`lora_modules_to_save`; `lora_model_dir` is an adapter to go on from.
"""

from __future__ import annotations

from typing import Any, Literal

from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn

from fourierft.errors import ConfigError, MissingExtraError
from fourierft.tuner import FourierFTConfig, enable

try:
    from axolotl.integrations.base import AdapterCapabilities, BasePlugin
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise MissingExtraError(
        f"fourierft.integrations.axolotl is for axolotl, which cannot be imported here ({error}); pip install axolotl"
    ) from error

NAME = "fourierft"


class FourierFTSettings(BaseModel):
    """The block `fourierft:`, with the names and defaults of `FourierFTConfig`."""

    model_config = ConfigDict(extra="forbid")

    n_frequency: int = 1000
    n_frequency_pattern: dict[str, int] = Field(default_factory=dict)
    scaling: float | Literal["auto"] = "auto"
    random_loc_seed: int = 777


class FourierFTArgs(BaseModel):
    """The keys that the plug-in adds to axolotl's file."""

    fourierft: FourierFTSettings = Field(default_factory=FourierFTSettings)


class FourierFTPlugin(BasePlugin):
    """Makes or loads the adapter where the file says `adapter: fourierft`."""

    def get_input_args(self) -> str:
        """The name of the keys' model."""
        return f"{FourierFTArgs.__module__}.{FourierFTArgs.__name__}"

    def get_adapter_capabilities(self) -> list[AdapterCapabilities]:
        """The one adapter; it is not trained by restarts, as ReLoRA is."""
        return [AdapterCapabilities(name=NAME)]

    def load_adapter(
        self, model: nn.Module, cfg: Any, inference: bool = False, config_only: bool = False
    ) -> tuple[PeftModel | None, PeftConfig] | None:
        """The model with its adapter, and the adapter's config; None if another adapter is asked for.

        Raises: ConfigError, if the file names no target modules.
        """
        if cfg.adapter != NAME:
            return None
        targets = "all-linear" if cfg.lora_target_linear else cfg.lora_target_modules
        if not targets:
            raise ConfigError(
                "adapter: fourierft needs target modules; set lora_target_linear: true, or lora_target_modules"
            )
        config = FourierFTConfig(
            **FourierFTSettings(**(cfg.fourierft or {})).model_dump(),
            target_modules=targets,
            modules_to_save=cfg.lora_modules_to_save or None,
            task_type=_task_type(model),
        )
        if config_only:
            return None, config
        if cfg.lora_model_dir:
            return PeftModel.from_pretrained(model, cfg.lora_model_dir, is_trainable=not inference), config
        return get_peft_model(model, config), config


def _task_type(model: nn.Module) -> str:
    heads = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS"}
    return next((task for head, task in heads.items() if head in type(model).__name__), "CAUSAL_LM")


enable()

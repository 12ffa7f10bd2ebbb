"""ms-swift: `--tuner_type fourierft` with this package's tuner.

    echo "import fourierft.integrations.swift" > plugin.py
    swift sft --external_plugins plugin.py --tuner_type fourierft --fourier_n_frequency 340 ...

ms-swift asks `tuners_map` before its own list of tuners.
"""

from __future__ import annotations

from typing import Any

from peft import PeftModel, get_peft_model
from torch import nn

from fourierft.errors import MissingExtraError
from fourierft.tuner import FourierFTConfig, enable

try:
    from swift.pipelines.train.tuner import get_modules_to_save, get_target_modules
    from swift.tuner_plugin import PeftTuner, tuners_map
except ImportError as error:
    raise MissingExtraError(
        f"fourierft.integrations.swift is for ms-swift 4, which cannot be imported here ({error}); pip install ms-swift"
    ) from error

NOT_CHOSEN = 300.0  # `--fourier_scaling` where nobody gave one
TASK_TYPES = {"embedding": None, "seq_cls": "SEQ_CLS", "reranker": "SEQ_CLS"}  # ms-swift's -> PEFT's, as for LoRA there


class FourierFTTuner(PeftTuner):
    """Makes the adapter; ms-swift's `PeftTuner` saves and loads it."""

    @staticmethod
    def prepare_model(args: Any, model: nn.Module) -> PeftModel:
        """An adapter at the places that `--target_modules` names.

        Args:
            args: of ms-swift. `fourier_n_frequency` coefficients a layer; `fourier_scaling` is the scaling, and
                ms-swift's own value of it, 300, stands for "auto".
            model: the base.
        """
        config = FourierFTConfig(
            target_modules=get_target_modules(args, model),
            modules_to_save=get_modules_to_save(args, model, args.task_type),
            n_frequency=args.fourier_n_frequency,
            scaling="auto" if args.fourier_scaling == NOT_CHOSEN else args.fourier_scaling,
            task_type=TASK_TYPES.get(args.task_type, "CAUSAL_LM"),
        )
        return get_peft_model(model, config)


enable()
tuners_map["fourierft"] = FourierFTTuner

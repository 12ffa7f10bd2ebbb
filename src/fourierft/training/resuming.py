"""What makes a training the run that it is, so that none goes on with other data or settings unsaid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fourierft.errors import ConfigError
from fourierft.format.identity import identify_base
from fourierft.training.digests import digest_all
from fourierft.training.methods import BOOKKEEPING
from fourierft.training.starting import describe_start

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from fourierft.training.plan import Plan

RECORDED = (
    *("dtype", "quantization", "heads", "inputs", "task", "labels", "max_length", "chat_template", "method"),
    "beta",
)
TRAINING = (  # of transformers' TrainingArguments; the others say where to, how often, how fast, or on what machine
    *(
        "seed",
        "data_seed",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
    ),
    *("optim", "optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"),
    *("max_grad_norm", "label_smoothing_factor", "neftune_noise_alpha", "max_steps", "num_train_epochs"),
    *("bf16", "fp16", "average_tokens_across_devices", "accelerator_config", "auto_find_batch_size"),
    *("train_sampling_strategy", "length_column_name", "dataloader_drop_last"),
    *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
)


def describe_run(plan: Plan, settings: TrainingArguments) -> dict[str, Any]:
    """What makes a run of `fourierft train`, by name, as JSON has it.

    Args:
        plan: of it.
        settings: as the trainer has them.
    """
    given, record, model = settings.to_dict(), plan.record, cast(Any, plan.trainable.model)
    arguments = plan.arguments
    chosen = {name: given[name] for name in TRAINING if name in given}
    if settings.max_steps > 0:
        del chosen["num_train_epochs"]
    run = {
        "base_model": describe_base(record["base_model"], record["revision"]),
        **{name: record.get(name) for name in RECORDED},
        **(adapter_fields(model.peft_config["default"].to_dict()) if record["is_adapter"] else {}),
        "start": describe_start(record.get("start")),
        "head_learning_rate": arguments.method.head_learning_rate,
        "packing": arguments.data.packing,
        "image_size": arguments.data.image_size,
        "augment_images": arguments.data.augment_images,
        "devices": settings.world_size * max(settings.n_gpu, 1),
        **chosen,
        **{
            f"{name} rows": digest_all(plan.setup.family.row_digests(rows))
            for name, rows in plan.splits.items()
            if name != "test"
        },
    }
    return as_json(run)


def describe_base(name: str, revision: str | None) -> str:
    """A base model by the digest of its files, or by its name and revision if they are not here."""
    return identify_base(name, revision).digest or f"{name}, revision {revision}"


def check_same_run(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise ConfigError, with both values of whatever differs, if a checkpoint is of another run.

    Args:
        before: what makes the run of the checkpoint.
        now: what makes this one; a name that either has not is not compared.
    """
    changed = [name for name in now if name in before and now[name] != before[name]]
    if changed:
        told = "; ".join(f"{name} {_short(before[name])} before, {_short(now[name])} now" for name in changed)
        raise ConfigError(
            f"{checkpoint} belongs to another run ({told}); resume with the settings "
            "and data of its start, or start again in another folder"
        )


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """What comes back of a mapping that JSON was written of; sets are sorted lists."""
    text = json.dumps(content, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
    return dict(json.loads(text))


def adapter_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an adapter's config that make its run."""
    return {name: value for name, value in config.items() if name not in BOOKKEEPING}


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

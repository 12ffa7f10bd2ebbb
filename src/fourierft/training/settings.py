"""Where a setting comes from: a flag, else the file of `--config`, else a default.

Keys are the fields of `arguments`' dataclasses and of transformers' `TrainingArguments`; a config file is the flags
written down as YAML, one `key: value` a line.
"""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Mapping, Set
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from transformers.hf_argparser import HfArgumentParser

from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.training.arguments import (
    BASE,
    BASE_ALIASES,
    Arguments,
    DataArguments,
    MethodArguments,
    ModelArguments,
    RunArguments,
)
from fourierft.training.ranges import check_ranges

Part = TypeVar("Part")

OURS: tuple[Any, ...] = (ModelArguments, DataArguments, MethodArguments, RunArguments)
LEARNING_RATES = {"head": 1e-2, "bitfit": 1e-3, "full": 5e-5}
ADAPTER_LEARNING_RATE = 1e-3
TRAINING_DEFAULTS = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "logging_steps": 0.02,
    "per_device_eval_batch_size": 32,
}
SHOWN = {  # of transformers' TrainingArguments, those that the help shows: metavar and text
    "output_dir": ("DIR", "folder for the results; required"),
    "resume_from_checkpoint": (
        "CHECKPOINT",
        "continue from a checkpoint: its folder, or true for the last one in --output_dir",
    ),
    "num_train_epochs": ("N", "passes over the training rows (default: 3.0)"),
    "max_steps": ("N", "optimizer steps, instead of epochs; -1: no limit (default: -1)"),
    "per_device_train_batch_size": ("N", "rows in a training batch on each device (default: 8)"),
    "per_device_eval_batch_size": ("N", "rows in an evaluation batch on each device (default: 32)"),
    "gradient_accumulation_steps": ("N", "batches for each optimizer step (default: 1)"),
    "learning_rate": (
        "LR",
        "peak learning rate (default: 1e-3 for adapters, 1e-2 for head, 1e-3 for bitfit, 5e-5 for full)",
    ),
    "lr_scheduler_type": (
        "NAME",
        "schedule of the learning rate: linear, cosine, constant or another of transformers (default: linear)",
    ),
    "warmup_steps": ("N", "steps in which the learning rate rises; below 1, a share of the run (default: 0)"),
    "weight_decay": ("X", "weight decay of AdamW; not for biases and norms (default: 0.0)"),
    "seed": ("SEED", "random seed of the head, the order of rows and dropout (default: 42)"),
    "bf16": ("BOOL", "compute in bfloat16; trained weights keep their dtype (default: False)"),
    "use_cpu": ("BOOL", "train on the CPU even if there is an accelerator (default: False)"),
    "eval_strategy": (
        "WHEN",
        "when to evaluate: no, steps or epoch (default: epoch, or steps with --eval_steps)",
    ),
    "eval_steps": ("N", "steps between evaluations; below 1, a share of the run"),
    "save_strategy": (
        "WHEN",
        "when to save a checkpoint: no, steps or epoch (default: epoch, or steps with --save_steps)",
    ),
    "save_steps": ("N", "steps between checkpoints; below 1, a share of the run (default: 500)"),
    "save_total_limit": ("N", "checkpoints to keep (default: 2)"),
    "push_to_hub": ("BOOL", "upload the results and the model card to the hub at the end (default: False)"),
    "hub_model_id": ("NAME", "repository on the hub, created if missing (default: name of --output_dir)"),
    "hub_private_repo": ("BOOL", "make the repository private"),
    "logging_steps": ("N", "steps between log lines; below 1, a share of the run (default: 0.02)"),
    "load_best_model_at_end": (
        "BOOL",
        "save the model with the best validation score, not the last one (default: False)",
    ),
    "metric_for_best_model": (
        "METRIC",
        "metric that decides which model is best, such as matthews or f1 (default: accuracy, pearson or answer_loss)",
    ),
}


class SettingsParser(HfArgumentParser):
    """A parser whose errors are `ConfigError`.

    Attributes:
        one_or_several: settings that are a value or a list of them, such as report_to; one value is kept as itself.
    """

    one_or_several: Set[str] = frozenset()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does."""
        found, rest = super().parse_known_args(args, namespace)
        for name in self.one_or_several & vars(found).keys():
            if len(getattr(found, name)) == 1:
                setattr(found, name, getattr(found, name)[0])
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(message)


def settings_parser() -> SettingsParser:
    """A parser of every setting; its namespace holds what was given and nothing else."""
    parser = SettingsParser(_kinds(), add_help=False)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    hints = {name: hint for kind in _kinds() for name, hint in get_type_hints(kind).items()}
    parser.one_or_several = {name for name, hint in hints.items() if {str, list[str]} <= set(get_args(hint))}
    for action in parser._actions:
        if action.dest in parser.one_or_several:
            action.nargs = "+"
    return parser


def help_parser() -> SettingsParser:
    """A parser for the help, of what matters of the settings; it does without what takes seconds to import."""
    parser = SettingsParser(OURS, add_help=False)
    defaults = {item.name: item.default for kind in OURS for item in fields(kind)}
    for action in parser._actions:
        if action.const is False:
            action.help = argparse.SUPPRESS
            continue
        if action.metavar is None:
            action.metavar = "BOOL"
        action.help = _with_default(action.help or "", defaults[action.dest]).replace("%", "%%")
    group = parser.add_argument_group("training, the most used of transformers' TrainingArguments")
    for name, (metavar, text) in SHOWN.items():
        group.add_argument(f"--{name}", metavar=metavar, help=text, nargs="?" if metavar == "BOOL" else None)
    return parser


def _with_default(text: str, default: Any) -> str:
    return text if default is None else f"{text} (default: {default})"


def _kinds() -> tuple[Any, ...]:
    from transformers import TrainingArguments

    return (*OURS, TrainingArguments)


def known_settings() -> set[str]:
    return {item.name for kind in _kinds() for item in fields(kind) if item.init}


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file, checked and converted as the flags of the same names would be.

    Raises: ConfigError, if the file is missing, is not a YAML mapping, or holds an unknown key or a wrong value.
    """
    source = f"config file {path}"
    return convert_settings(read_yaml(path, source), source)


def read_yaml(path: str | Path, source: str) -> dict[str, Any]:
    """The keys and values of a YAML file, under their one name; keys without a value are left out.

    Args:
        source: what errors call it.

    Raises: ConfigError, if the file is missing or is not a YAML mapping.
    """
    with needs("train", f"reading the {source}"):
        import yaml
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{source} can't be read ({error.strerror}); name a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source} holds {type(content).__name__}; write one `key: value` a line")
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        name = BASE if f"--{name}" in BASE_ALIASES else name
        if name in settings:
            raise ConfigError(f"{source} sets {name} twice, once as {key}; remove one")
        if value is not None:
            settings[name] = value
    return settings


def convert_settings(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Settings checked and converted as the flags of the same names would be.

    Raises: ConfigError, naming the source, if one is unknown or of a wrong value.
    """
    check_names(settings, source)
    parser = settings_parser()
    for action in parser._actions:
        value = settings.get(action.dest)
        if isinstance(value, list) and action.nargs != "+":
            raise ConfigError(f"{source}: {action.dest} takes one value, not a list; got {value}")
    try:
        return vars(parser.parse_args(as_flags(settings)))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    flags = []
    for key, value in settings.items():
        if isinstance(value, list):
            flags += [f"--{key}", *map(str, value)]
        else:
            flags.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return flags


def check_names(settings: Mapping[str, Any], source: str) -> None:
    """Raise ConfigError, naming the nearest known setting, if a name is unknown."""
    known = known_settings()
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "see `fourierft train --help`"
            raise ConfigError(f"{source} has the unknown key {name}; {hint}")


def build_arguments(settings: Mapping[str, Any]) -> Arguments:
    """The arguments of a run from what was given, defaults filled in.

    Args:
        settings: values by name, of the right types, as `settings_parser` and `read_config` return them.

    Raises: ConfigError, if a name is unknown, a required setting is missing, a number is out of range, or settings
        contradict each other.
    """
    import torch
    from transformers import TrainingArguments

    check_names(settings, "the call")
    if settings.get("model_asset") or settings.get("data_asset"):
        from fourierft.training.comparison.sources import with_assets

        settings = with_assets(settings)
    unneeded = ["output_dir", *(["model_name_or_path"] if settings.get("model_asset") else [])]
    for name in ("model_name_or_path", "output_dir"):
        if not settings.get(name) and not (name in unneeded and settings.get("dry_run")):
            raise ConfigError(f"{name} is missing; give --{name}")
    of_lora = next((name for name in ("lora_r", "lora_alpha", "lora_dropout") if name in settings), None)
    if of_lora and "method" not in settings:
        raise ConfigError(
            f"{of_lora}={settings[of_lora]} is a setting of LoRA, but FourierFT is what is trained where no method is "
            "given; give --method lora, or leave it out"
        )
    method = settings.get("method", "fourierft")
    filled = {
        **TRAINING_DEFAULTS,
        "learning_rate": LEARNING_RATES.get(method, ADAPTER_LEARNING_RATE),
        "dataloader_pin_memory": torch.accelerator.is_available(),
        **{f"{kind}_strategy": "steps" for kind in ("eval", "save") if f"{kind}_steps" in settings},
        **settings,
    }
    check_ranges(filled)
    if settings.get("push_to_hub") and settings.get("hub_strategy", "end") != "end":
        raise ConfigError(
            f"hub_strategy={settings['hub_strategy']} would upload unfinished results, "
            "but only finished ones are uploaded; leave it out"
        )
    if settings.get("dry_run") and not torch.accelerator.is_available():
        filled["use_cpu"] = (
            True  # bf16, which transformers would refuse without a device that has it, may be asked about
        )
    try:
        training = _fill(TrainingArguments, filled)
        if "metric_for_best_model" not in settings:
            training.metric_for_best_model = None  # transformers says loss; the task has a metric of its own
        return Arguments(
            model=_fill(ModelArguments, filled),
            data=_fill(DataArguments, filled),
            method=_fill(MethodArguments, filled),
            run=_fill(RunArguments, filled),
            training=training,
        )
    except (ValueError, ImportError) as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _fill(kind: type[Part], settings: Mapping[str, Any]) -> Part:
    names = [item.name for item in fields(kind) if item.init]  # type: ignore[arg-type]
    return kind(**{name: settings[name] for name in names if name in settings})

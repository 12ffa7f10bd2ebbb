"""Bases for the study of widths: language models of bytes, from one recipe at every width, kept in the cache.

A base has two layers, heads of 64 features and the vocabulary of ByT5's tokenizer, which needs no files. It is trained
from a seeded random start to write WordNet's glosses; a word with a digest of all that stands for it in rows.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, ByT5Tokenizer, LlamaConfig, LlamaForCausalLM, set_seed

from fourierft.adapters.base import quiet
from fourierft.errors import ConfigError
from fourierft.training.assets import MADE, cache_root, is_intact, replacing
from fourierft.training.comparison.grid import QUIET
from fourierft.training.comparison.tasks import digest
from fourierft.training.output import write_json
from fourierft.training.run import train
from fourierft.training.settings import build_arguments

SEED = 0
HEAD_WIDTH = 64
NARROWEST, RATE = 128, 3e-3  # the learning rate falls with the root of the width, from here
PRETRAINING: dict[str, Any] = {
    "data_asset": "glosses",
    "train_rows": 3200,
    "validation_rows": 200,
    "task": "answers",
    "text_column": ["mr"],
    "label_column": "ref",
    "method": "full",
    "seed": SEED,
    "max_steps": 400,
    "warmup_steps": 20,
    "per_device_train_batch_size": 8,
    "train_sampling_strategy": "group_by_length",
    "max_length": 192,
    "eval_strategy": "no",  # but at the end
}


def architecture(width: int) -> dict[str, Any]:
    """The fields of a base's LlamaConfig.

    Raises: ConfigError, if heads do not fill the width.
    """
    if width < 1 or width % (HEAD_WIDTH if width > HEAD_WIDTH else 2):
        raise ConfigError(
            f"width {width} can't be cut into heads; use a multiple of {HEAD_WIDTH}, or an even number below"
        )
    heads, tokenizer = max(1, width // HEAD_WIDTH), ByT5Tokenizer()
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 256,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }


def pretraining_rate(width: int) -> float:
    """The learning rate a base is trained at."""
    return RATE * math.sqrt(NARROWEST / width)


def base_word(width: int) -> str:
    """What a base is called, in rows and in the cache; another recipe gives another word.

    Raises: ConfigError, as `architecture`.
    """
    return f"bytes-{width}-{digest([architecture(width), PRETRAINING, pretraining_rate(width)])[:8]}"


def find_base(width: int) -> Path:
    """The directory of a base, which is trained unless it is there whole.

    Raises: ConfigError, as `architecture`. TrainingInterrupted, on Ctrl-C; nothing of it is left then.
    """
    folder = cache_root() / base_word(width)
    if not is_intact(folder):
        print(f"training a base {width} wide", flush=True)
        with replacing(folder) as work:
            make_base(width, work)
    return folder


def make_base(width: int, work: Path) -> None:
    """Train a base and leave it, with the loss it reached on glosses held out, in `work` under MADE."""
    start, trained, made = work / "start", work / "trained", work / MADE
    set_seed(SEED)
    model = LlamaForCausalLM(LlamaConfig(**architecture(width)))
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        model.save_pretrained(start)
        ByT5Tokenizer().save_pretrained(start)
        places = {"model_name_or_path": str(start), "output_dir": str(trained)}
        metrics = train(build_arguments({**QUIET, **PRETRAINING, **places, "learning_rate": pretraining_rate(width)}))
        AutoModelForCausalLM.from_pretrained(trained).save_pretrained(made)
        ByT5Tokenizer().save_pretrained(made)
    write_json(made / "pretraining.json", {"loss": metrics["eval"][metrics["main_metric"]]})


def pretrained_loss(width: int) -> float:
    """Loss a byte that a base reached on glosses held out."""
    return float(json.loads((find_base(width) / "pretraining.json").read_text(encoding="utf-8"))["loss"])

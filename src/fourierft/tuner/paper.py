"""The paper's settings, one set a task and model (arXiv 2405.03003, Tables 9 to 12), to repeat its runs.

They differ from this package's defaults on purpose: a number for alpha, a normal start, seed 2024, and learning rates
some fifty times higher. To fine-tune rather than repeat, leave `scaling="auto"`.
"""

from __future__ import annotations

from dataclasses import dataclass

from fourierft.errors import ConfigError

SEED = 2024  # of the entries, in the authors' code


@dataclass(frozen=True)
class PaperRun:
    """What the paper trains a task with.

    Attributes:
        n_frequency: coefficients a layer (n).
        scaling: alpha.
        learning_rate: of the coefficients; AdamW, falling linearly.
        head_learning_rate: of the task head; None where the paper names none.
        epochs: over the training data.
        batch_size: sequences or images an optimiser step; of instructions 4 at a time, accumulated over 4.
        max_length: tokens of a sequence; None for images and where the paper names none.
        warmup_ratio: share of the steps in which the learning rate rises.
        weight_decay: of AdamW.
        label_smoothing: of the loss.
    """

    n_frequency: int
    scaling: float
    learning_rate: float
    head_learning_rate: float | None
    epochs: int
    batch_size: int
    max_length: int | None = None
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0


def _glue(
    epochs: int, learning_rate: float, head_learning_rate: float, max_length: int, scaling: float, batch_size: int
) -> PaperRun:
    return PaperRun(1000, scaling, learning_rate, head_learning_rate, epochs, batch_size, max_length, warmup_ratio=0.06)


def _generation(learning_rate: float, head_learning_rate: float, weight_decay: float) -> PaperRun:
    return PaperRun(
        1000, 300.0, learning_rate, head_learning_rate, 5, 128, weight_decay=weight_decay, label_smoothing=0.1
    )


def _images(learning_rate: float, head_learning_rate: float, weight_decay: float) -> PaperRun:
    return PaperRun(3000, 300.0, learning_rate, head_learning_rate, 10, 200, weight_decay=weight_decay)


_BASE, _LARGE, _MEDIUM_GPT, _LARGE_GPT = "roberta-base", "roberta-large", "gpt2-medium", "gpt2-large"
_VITS, _LLAMAS = ("vit-base", "vit-large"), ("llama-1-7b", "llama-1-13b", "llama-2-7b", "llama-2-13b")
_IMAGE_RUNS = {
    "pets": _images(3e-1, 1e-3, 8e-4),
    "cars": _images(3e-1, 1e-3, 4e-5),
    "cifar10": _images(3e-1, 1e-3, 9e-5),
    "dtd": _images(3e-1, 1e-3, 7e-5),
    "eurosat": _images(2e-1, 8e-4, 3e-4),
    "fgvc": _images(3e-1, 1e-3, 7e-5),
    "resisc45": _images(3e-1, 1e-3, 3e-4),
    "cifar100": _images(2e-1, 7e-4, 1e-4),
}
PAPER_RUNS: dict[tuple[str, str], PaperRun] = {  # (task, model)
    ("stsb", _BASE): _glue(60, 9e-2, 9e-3, 512, 84.0, 32),
    ("rte", _BASE): _glue(90, 9e-2, 1.1e-2, 512, 110.0, 32),
    ("mrpc", _BASE): _glue(30, 5e-2, 6e-3, 512, 141.0, 32),
    ("cola", _BASE): _glue(100, 1.2e-1, 8e-3, 512, 49.0, 32),
    ("sst2", _BASE): _glue(40, 5e-2, 6e-3, 512, 140.0, 32),
    ("qnli", _BASE): _glue(40, 1e-2, 1e-3, 512, 29.0, 32),
    ("stsb", _LARGE): _glue(30, 7e-2, 1e-3, 512, 121.0, 32),
    ("rte", _LARGE): _glue(60, 8e-2, 5e-3, 512, 90.0, 32),
    ("mrpc", _LARGE): _glue(30, 6e-2, 1e-3, 512, 120.0, 32),
    ("cola", _LARGE): _glue(80, 4.3e-2, 1.1e-2, 256, 120.0, 128),
    ("sst2", _LARGE): _glue(10, 4.3e-2, 1e-3, 128, 99.0, 32),
    ("qnli", _LARGE): _glue(30, 6e-2, 5e-3, 512, 69.0, 32),
    ("e2e", _MEDIUM_GPT): _generation(2e-2, 2e-4, 0.01),
    ("e2e", _LARGE_GPT): _generation(5e-2, 1e-4, 0.03),
    **{("instructions", model): PaperRun(1000, 300.0, 3e-2, None, 1, 16, warmup_ratio=0.06) for model in _LLAMAS},
    **{(task, model): run for task, run in _IMAGE_RUNS.items() for model in _VITS},
}


def paper_run(task: str, model: str | None = None) -> PaperRun:
    """The paper's settings for a task.

    Args:
        task: such as "cola", "e2e", "instructions" or "cifar10".
        model: such as "roberta-base"; may be left out where the paper's settings are the same for all models.

    Raises: ConfigError, if the paper has no such run, or models differ and none is named.
    """
    models = {held: run for (name, held), run in PAPER_RUNS.items() if name == task}
    if not models:
        tasks = ", ".join(dict.fromkeys(name for name, _ in PAPER_RUNS))
        raise ConfigError(f"the paper has no task {task!r}; use one of {tasks}")
    if model is None and len(set(models.values())) == 1:
        return next(iter(models.values()))
    if model not in models:
        raise ConfigError(f"the paper has no run of {task} with model={model!r}; use one of {', '.join(models)}")
    return models[model]

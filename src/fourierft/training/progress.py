"""How far a training is: one bar on a terminal, and a line for what is logged; and how long its steps take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from fourierft.bars import bar

UNTOLD = ("total_flos", "epoch", "runtime", "per_second")  # ends of names that a reader of the log does without


class Progress(TrainerCallback):
    """Draws the one bar of a trainer, which says so while it evaluates, and prints what the trainer logs.

    transformers draws a second bar for each evaluation, and both into files and pipes, too.

    Args:
        draws: whether there is a bar, if standard error is a terminal.
    """

    def __init__(self, draws: bool) -> None:
        self._draws = draws
        self._bar: tqdm[Any] | None = None
        self._scoring: tqdm[Any] | None = None
        self._scored = 0  # batches of the evaluation that runs

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Open the bar."""
        if state.is_world_process_zero:
            self._bar = self._open("training", state.max_steps, initial=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, *_: Any, eval_dataloader: Any = None, **__: Any
    ) -> None:
        """Count the batches of an evaluation, in the bar of the training if there is one."""
        if not (state.is_world_process_zero and has_length(eval_dataloader)):
            return
        self._scored += 1
        if self._bar is not None:
            self._bar.set_postfix_str(f"evaluating {self._scored}/{len(eval_dataloader)}")
            return
        self._scoring = self._scoring or self._open("evaluating", len(eval_dataloader))
        self._scoring.update()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """End what an evaluation shows."""
        self._scored = 0
        if self._bar is not None:
            self._bar.set_postfix_str("")
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None

    on_predict = on_evaluate

    def on_log(
        self, args: TrainingArguments, state: TrainerState, *_: Any, logs: Mapping[str, Any] | None = None, **__: Any
    ) -> None:
        """Print a line: the step, and the numbers."""
        if state.is_world_process_zero and logs:
            line = describe_logs(logs)
            if line:
                tqdm.write(f"step {state.global_step} of {state.max_steps}: {line}")
                sys.stdout.flush()  # a file that is followed shows it at once

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self, doing: str, total: int, initial: int = 0) -> tqdm[Any]:
        return bar(None, doing, "steps", self._draws, total=total, initial=initial)


class StepTimer(TrainerCallback):
    """Measures how long steps take, evaluation and saving left out."""

    def __init__(self) -> None:
        self._begin = 0.0
        self._seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._seconds.append(time.perf_counter() - self._begin)

    @property
    def seconds_per_step(self) -> float:
        """Median of the steps, in seconds; 0 if there were none."""
        return median(self._seconds) if self._seconds else 0.0


def describe_logs(logs: Mapping[str, Any]) -> str:
    """What was logged, in words: `loss 0.645, learning_rate 0.000673`."""
    told = {name: value for name, value in logs.items() if not name.endswith(UNTOLD)}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()
    )

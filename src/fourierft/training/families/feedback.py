"""Preferences: whether an answer to a prompt is a good one, learned by TRL's KTO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import EvalPrediction, PreTrainedTokenizerBase

from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import column_names
from fourierft.training.chat.conversation import CONVERSATION_COLUMNS
from fourierft.training.columns import Columns, require_columns
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.preferences import Preferences, import_trainer
from fourierft.training.labels import Where, by_index
from fourierft.training.preferences.outcome import score_feedback
from fourierft.training.preferences.rows import CHOSEN, COMPLETION, LABEL, find_prompt, read_labels

if TYPE_CHECKING:
    from datasets import Dataset


class Feedback(Preferences):
    """Rows of a prompt, a completion, and whether it is a good one."""

    kind = "feedback"
    metrics = ("preference_accuracy", "reward_margin")
    encoded = ("completion_ids",)

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether the family was named, and there is no chosen answer, but a completion or a conversation."""
        if data.task != self.name or rows is None or CHOSEN in column_names(rows):
            return False
        return bool({COMPLETION, *CONVERSATION_COLUMNS} & set(column_names(rows)))

    def learn(
        self, values: Sequence[Any], column: str, declared: Sequence[str], where: Where, is_named: bool
    ) -> Preferences | None:
        """Itself.

        Raises: DataError, if all labels say the same.
        """
        if len(set(read_labels(values, where))) < 2:
            raise DataError(f"all completions have one {column}; give good ones and bad ones, or pairs of them")
        return self

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of the prompt, if it has one of its own, and of the completion or conversation; and of the label.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        require_columns(rows, [label or LABEL])
        held = [name for name in (COMPLETION, *CONVERSATION_COLUMNS) if name in column_names(rows)]
        named = [name for name in wanted or () if name in held]
        answer = COMPLETION if COMPLETION in held else (named or held or [COMPLETION])[0]
        prompt = find_prompt(rows, wanted, [answer]) if answer == COMPLETION else ()
        return Columns((*prompt, answer), label or LABEL)

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[Any]:
        """Whether each is good."""
        return read_labels(values, where)

    def encode_label(self, label: Any) -> dict[str, Any]:
        """Whether it is good."""
        return {LABEL: label}

    def check_batch(self, rows: int) -> None:
        """Raise ConfigError if it is one, which has no other beside it."""
        if rows < 2:
            raise ConfigError(
                f"per_device_train_batch_size={rows} is too small: KTO needs another row in each batch; use 2 or more"
            )

    def strata(self, labels: Sequence[Any]) -> Sequence[int] | None:
        """Good and bad."""
        return [int(label) for label in labels]

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy and margin on [rows, 2]."""
        return score_feedback(outputs_of(prediction), np.asarray(prediction.label_ids).tolist(), self.beta)

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """The reward of each."""
        return [{"reward": self.beta * (own - before)} for own, before in outputs.astype(float).tolist()]

    def _answers(self, columns: Columns) -> tuple[str, ...]:
        return columns.inputs[-1:]

    @property
    def _trainer(self) -> Any:
        return import_trainer().FeedbackTrainer

    def _collator(self, processor: PreTrainedTokenizerBase) -> Any:
        return import_trainer().feedback_collator(processor.pad_token_id)


FAMILIES = (Feedback(),)

"""Preferences: which of two answers to a prompt is better, learned by TRL's DPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import EvalPrediction, PreTrainedTokenizerBase

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import column_names
from fourierft.training.columns import Columns
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.preferences import Preferences, import_trainer
from fourierft.training.labels import Where, by_index
from fourierft.training.preferences.outcome import pair_rewards, score_pairs
from fourierft.training.preferences.rows import CHOSEN, COMPLETION, LABEL, REJECTED, find_prompt

if TYPE_CHECKING:
    from datasets import Dataset


class Pairs(Preferences):
    """Rows of a prompt, a chosen and a rejected answer."""

    kind = "pairs"
    metrics = ("preference_accuracy", "reward_margin", "preference_loss")
    lower_is_better = ("preference_loss",)
    encoded = ("chosen_ids", "rejected_ids")

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether there are a chosen and a rejected answer, or the task was named; feedback is asked before."""
        if data.task == self.name:
            return True
        is_open = not (data.text_column or data.label_column or data.image_column)
        return is_open and rows is not None and {CHOSEN, REJECTED} <= set(column_names(rows))

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of the prompt, if it has one of its own, and `rejected`; and `chosen`.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        missing = [name for name in (CHOSEN, REJECTED) if name not in column_names(rows)]
        if missing:
            raise DataError(
                f"the data has the columns {', '.join(column_names(rows))}, among them no {missing[0]}; preferences "
                f"are {CHOSEN} and {REJECTED} answers to a prompt, or {COMPLETION} with {LABEL}"
            )
        return Columns((*find_prompt(rows, wanted, (CHOSEN, REJECTED)), REJECTED), CHOSEN)

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[Any]:
        """The chosen answers, as they are."""
        return list(values)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy, margin and loss on [rows, 4]."""
        return score_pairs(outputs_of(prediction), self.beta)

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """The rewards of both answers."""
        return [
            {"reward_chosen": chosen, "reward_rejected": rejected}
            for chosen, rejected in pair_rewards(outputs, self.beta).tolist()
        ]

    def _by_row(self, outputs: np.ndarray, size: int) -> np.ndarray:
        """[rows, 4] of batches of chosen, then rejected [2 * rows, 2]."""
        parts = np.split(outputs, range(2 * size, len(outputs), 2 * size))
        return np.concatenate([part.reshape(2, -1, 2).transpose(1, 2, 0).reshape(-1, 4) for part in parts])

    def _answers(self, columns: Columns) -> tuple[str, ...]:
        return columns.label, columns.inputs[-1]

    @property
    def _trainer(self) -> Any:
        return import_trainer().PairTrainer

    def _collator(self, processor: PreTrainedTokenizerBase) -> Any:
        return import_trainer().pair_collator(processor.pad_token_id)


FAMILIES = (Pairs(),)

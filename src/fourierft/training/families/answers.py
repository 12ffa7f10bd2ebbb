"""Answers: a causal language model learns to continue a prompt with its answer, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from peft import TaskType
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fourierft import __version__
from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import (
    as_text,
    column_names,
    is_blank,
    iterate_rows,
    place_at,
    place_of,
    read_cell,
    read_column,
)
from fourierft.training.chat.conversation import BESIDE, find_beside
from fourierft.training.columns import Columns, check_columns, check_texts, find_column, require_columns
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.texts import CUT, LABEL_COLUMNS, TextRows, tell_cut
from fourierft.training.labels import IGNORED, Where, by_index
from fourierft.training.models import load_tokenizer, longest_text
from fourierft.training.prompts import encode_pair, join

if TYPE_CHECKING:
    from datasets import Dataset

PROMPT_COLUMNS = (
    *(("instruction", "input"), ("instruction", "context")),  # of Alpaca, of Dolly
    *(("instruction",), ("prompt",), ("question",)),
    *(("mr",), ("meaning_representation",)),  # data-to-text: E2E's own files, and those of the hub
)
ANSWER_COLUMNS = ("output", "answer", "completion", "response", "ref", "human_reference", "target")


class Answers(TextRows):
    """Rows of prompt and answer. The loss counts the answer's tokens alone, and is a mean over tokens."""

    name, kind = "answers", "prompt"
    model_class = AutoModelForCausalLM
    task_type: ClassVar[TaskType | None] = TaskType.CAUSAL_LM
    pipeline_tag = "text-generation"
    metrics = ("answer_loss", "token_accuracy")
    lower_is_better = ("answer_loss",)
    needs_head = False
    writes = True

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether the columns are called as those of prompt and answer are, and none as a label, or it was named."""
        if data.image_column or rows is None or data.task == self.name:
            return data.task == self.name and not data.image_column
        columns = set(column_names(rows))
        is_usual = any(set(names) <= columns for names in PROMPT_COLUMNS) and columns & set(ANSWER_COLUMNS)
        return bool(is_usual and not (data.label_column or columns & set(LABEL_COLUMNS)))

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of the prompt, joined by a line break, and of the answer: those named, else the usual ones.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        require_columns(rows, wanted or [])
        usual = next((names for names in PROMPT_COLUMNS if set(names) <= set(column_names(rows))), None)
        prompt = tuple(wanted) if wanted else usual
        if prompt is None:
            prompt = (find_column(rows, None, (), "text"),)
        return Columns(prompt, find_column(rows, label, ANSWER_COLUMNS, "label"))

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a column, or one has no prompt; a part of it may be empty."""
        check_columns(rows, columns)
        check_texts(rows, columns.inputs, "text_column")
        parts = zip(*(read_column(rows, column) for column in columns.inputs), strict=True)
        empty = next((index for index, values in enumerate(parts) if all(map(is_blank, values))), None)
        if empty is not None:
            names = " and ".join(columns.inputs)
            raise DataError(f"{place_at(rows, empty)} has no prompt in {names}; fill or remove it")
        self.check_beside(rows, columns)

    def check_beside(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if a row says something beside prompt and answer that belongs to a conversation."""
        beside = [name for name in BESIDE if name in rows.column_names]
        for index, row in enumerate(iterate_rows(rows.select_columns(beside)) if beside else ()):
            name = find_beside(row, (*columns.inputs, columns.label))
            if name is not None:
                raise DataError(
                    f"{place_at(rows, index)} has {name} beside its prompt, which only --task "
                    "chat uses; give --task chat, or remove the column"
                )

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises: ConfigError, if it has no token that ends a text.
        """
        tokenizer = load_tokenizer(arguments)
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"the tokenizer of {arguments.model_name_or_path} has no end token; use another")
        return tokenizer

    def fit(self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, wanted: int | None) -> int | None:
        """The number of tokens a prompt with its answer is cut to."""
        return longest_text(model, processor, wanted)

    def encode_rows(
        self, rows: Dataset, columns: Columns, labels: list[Any], processor: PreTrainedTokenizerBase, limit: int | None
    ) -> Dataset:
        """The rows as the model reads them: prompt and answer in one, cut to `limit`; `labels` are IGNORED but for
        the answer's tokens. The number of cuts is printed.

        Args:
            labels: the answers.

        Raises: DataError, if a prompt leaves no room for its answer.
        """

        def encode(row: dict[str, Any], index: int, version: str) -> dict[str, Any]:
            try:
                tokens, learned = self.encode_row(row, columns, labels[index], processor)
            except ConfigError as error:
                raise DataError(f"{place_of(row, index)}: {error}") from error
            prompt = next((place for place, label in enumerate(learned) if label != IGNORED), len(learned))
            if limit is not None and prompt >= limit:
                raise DataError(
                    f"the prompt in {place_of(row, index)} has {prompt} tokens, which leaves "
                    f"no room for its answer within max_length={limit}; raise --max_length, "
                    "or remove the row"
                )
            is_cut, tokens = limit is not None and len(tokens) > limit, tokens[:limit]
            return {
                "input_ids": tokens,
                "attention_mask": [1] * len(tokens),
                "labels": learned[:limit],
                CUT: is_cut,
            }

        encoded = rows.map(
            encode,
            with_indices=True,
            remove_columns=rows.column_names,
            fn_kwargs={"version": __version__},  # what another release made is not taken from the cache
            desc="Tokenizing",
        )
        return tell_cut(encoded, rows, limit)

    def encode_row(
        self, row: Mapping[str, Any], columns: Columns, label: Any, tokenizer: PreTrainedTokenizerBase
    ) -> tuple[list[int], list[int]]:
        prompt, answer = encode_pair(join([as_text(read_cell(row[name])) for name in columns.inputs]), label, tokenizer)
        return prompt + answer, [IGNORED] * len(prompt) + answer

    def collator(self, processor: PreTrainedTokenizerBase) -> Any:
        return DataCollatorForSeq2Seq(processor, label_pad_token_id=IGNORED)

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[str]:
        """The answers as texts; DataError, if one is empty or something else."""
        answers = []
        for index, value in enumerate(values):
            answer = as_text(value)
            if answer is None or is_blank(answer):
                raise DataError(f"answer {value!r} in {where(index)} is not a text; fill or remove it")
            answers.append(answer)
        return answers

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(rows, *shape, dtype=torch.long)

    def row_counts(self, labels: Tensor) -> Tensor:
        """The tokens of the answer that have one before them."""
        return (labels[:, 1:] != IGNORED).sum(1).float()

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits [rows, tokens, words]."""
        return nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none").sum(1)

    def reduce(self, logits: Any, labels: Tensor) -> Tensor:
        """What is kept of a batch's logits [rows, tokens, words].

        Returns: [rows, 3]: the sum of -log p over the answer's tokens, how many were the likeliest, how many there are.
        """
        logits = (logits[0] if isinstance(logits, tuple) else logits)[:, :-1].float()
        expected = labels[:, 1:]
        counted = expected != IGNORED
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), expected, reduction="none")
        right = (logits.argmax(dim=-1) == expected) & counted
        return torch.stack([losses.sum(dim=1), right.sum(dim=1), counted.sum(dim=1)], dim=1)

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss per token of the answers (natural logarithm), and the share of tokens that were the likeliest."""
        loss, right, count = outputs_of(prediction).astype(np.float64).sum(axis=0)
        return {"answer_loss": float(loss / count), "token_accuracy": float(right / count)}

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """Loss per token of every row of [rows, 3]."""
        return [{"answer_loss": float(loss / count)} for loss, _, count in outputs]


FAMILIES = (Answers(),)

"""What families of preferences have in common: answers to a prompt, in the model's chat template, and TRL's trainer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
from peft import PeftModel, TaskType
from torch import Tensor
from transformers import AutoModelForCausalLM, EvalPrediction, PreTrainedTokenizerBase

from fourierft import __version__
from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import iterate_rows, place_of
from fourierft.training.chat.template import ensure_template, template_name
from fourierft.training.columns import Columns, check_columns
from fourierft.training.devices import find_device
from fourierft.training.families.outputs import Scored
from fourierft.training.families.texts import CUT, TextRows, tell_cut
from fourierft.training.models import load_tokenizer
from fourierft.training.preferences.outcome import find_reference, run_batches
from fourierft.training.preferences.rows import LABEL, encode_answer, read_answer, separator_of
from fourierft.training.starting import describe_start, locate_start

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Preferences(TextRows):
    """What both kinds of rows have in common.

    The last of the columns of inputs is one of an answer, those before it are the prompt's.

    Class attributes:
        encoded: columns of the tokens of answers.

    Args:
        beta: as in the papers.
    """

    beta: float = 0.1

    name = "preferences"
    model_class = AutoModelForCausalLM
    task_type: ClassVar[TaskType | None] = TaskType.CAUSAL_LM
    pipeline_tag = "text-generation"
    needs_head = False
    writes = True
    encoded: ClassVar[tuple[str, ...]]

    def with_settings(self, settings: Mapping[str, Any]) -> Preferences:
        """With their beta.

        Raises: ConfigError, if it is not positive.
        """
        beta = settings["beta"]
        if not 0 < beta < float("inf"):
            raise ConfigError(f"beta={beta} is not positive; use one such as 0.1")
        return replace(self, beta=beta)

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a column, or one of them can't be learned from."""
        check_columns(rows, columns)
        prompt, answers = columns.inputs[:-1], self._answers(columns)
        for index, row in enumerate(iterate_rows(rows)):
            where = place_of(row, index)
            talks = [read_answer(row, prompt, name, "\n", where) for name in answers]
            if any(talk.messages[:-1] != talks[0].messages[:-1] for talk in talks):
                raise DataError(f"{where} has answers to different prompts; give both the same, or remove the row")
            if len(talks) > 1 and talks[0].messages[-1] == talks[1].messages[-1]:
                raise DataError(f"{where} has the same answer as chosen and as rejected; remove the row")

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> PreTrainedTokenizerBase:
        """The tokenizer, with a chat template: its own, or that of the Alpaca prompt.

        Raises: ConfigError, if it has no token that ends a text.
        """
        tokenizer = load_tokenizer(arguments)
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"the tokenizer of {arguments.model_name_or_path} has no end token; use another")
        ensure_template(tokenizer)
        return tokenizer

    def record_processor(self, processor: PreTrainedTokenizerBase, arguments: ModelArguments) -> dict[str, Any]:
        """The tokenizer, if it is not the model's; its template; beta, and the adapter that is the reference."""
        told = {"tokenizer": arguments.tokenizer_name, "chat_template": template_name(processor)}
        start = locate_start(arguments.adapter_name_or_path)
        return {**told, "beta": self.beta, "start": start, "start_digest": describe_start(start)}

    def encode_rows(
        self, rows: Dataset, columns: Columns, labels: list[Any], processor: PreTrainedTokenizerBase, limit: int | None
    ) -> Dataset:
        """The tokens of prompt and answers, cut to `limit` together; the number of cuts is printed.

        Raises: DataError, if a prompt leaves no room for an answer, the template writes it differently for each, or
            both answers are the same tokens.
        """
        prompt, answers, separator = columns.inputs[:-1], self._answers(columns), separator_of(processor)

        def encode(row: dict[str, Any], index: int, version: str) -> dict[str, Any]:
            where = place_of(row, index)
            talks = [read_answer(row, prompt, name, separator, where) for name in answers]
            found = [encode_answer(talk, processor, limit, where) for talk in talks]
            if any(one.prompt != found[0].prompt for one in found):
                raise DataError(
                    f"the model's chat template writes the prompt in {where} differently for each answer; use another "
                    "model, or remove the row"
                )
            room = None if limit is None else limit - len(found[0].prompt)
            is_cut = room is not None and any(len(one.answer) > room for one in found)
            if len(found) > 1 and found[0].answer[:room] == found[1].answer[:room]:
                remedy = f", cut to max_length={limit}; raise it, or" if is_cut else ";"
                raise DataError(f"{where} has the same tokens as chosen and as rejected answer{remedy} remove the row")
            return {
                "prompt_ids": found[0].prompt,
                **{name: one.answer[:room] for name, one in zip(self.encoded, found, strict=True)},
                **self.encode_label(labels[index]),
                CUT: is_cut,
            }

        made = rows.map(
            encode,
            with_indices=True,
            remove_columns=rows.column_names,
            fn_kwargs={"version": __version__},  # what another release made is not taken from the cache
            desc="Tokenizing",
        )
        return tell_cut(made, rows, limit)

    def encode_label(self, label: Any) -> dict[str, Any]:
        """The column of a label, if rows have one."""
        return {}

    def require(self) -> None:
        """Raise MissingExtraError if TRL is not installed, ConfigError if it is too old."""
        import_trainer().check_release()

    def make_trainer(
        self, options: dict[str, Any], heads: tuple[str, ...], head_rate: float | None, limit: int | None, packing: bool
    ) -> Any:
        """TRL's.

        Raises: ConfigError, if the method is no adapter.
        """
        self.require()
        if not isinstance(options["model"], PeftModel):
            raise ConfigError("only an adapter can learn preferences; use another method, such as fourierft or lora")
        return self._trainer(data_collator=self._collator(options["processing_class"]), beta=self.beta, **options)

    def row_shape(self, train: Any, limit: int | None, packing: bool) -> tuple[int, ...]:
        """The tokens of the longest prompt with an answer."""
        return (max(self.row_lengths(train)),)

    def row_lengths(self, encoded: Any) -> list[int]:
        """Tokens of each prompt with its longest answer."""
        answers = zip(*(encoded[name] for name in self.encoded), strict=True)
        return [len(prompt) + max(map(len, own)) for prompt, own in zip(encoded["prompt_ids"], answers, strict=True)]

    def empty_batch(self, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Tokens and labels, a row an answer."""
        return super().empty_batch(rows * len(self.encoded), shape)

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        """Tokens."""
        return torch.empty(rows, *shape, dtype=torch.long)

    def collator(self, processor: Any) -> NoReturn:
        """Raise ConfigError: what asks for it trains or scores rows of other tasks."""
        raise ConfigError("a fleet does not learn preferences; train each adapter with `fourierft train`")

    def predict(self, model: Any, rows: Any, processor: Any, record: Mapping[str, Any], **settings: Any) -> Scored:
        """log p of the answers, the model's own and those of what it was, and metrics.

        Raises: CheckpointError, if the adapter that the training went on from is not there, or another one is.
        """
        size, reference = settings["per_device_eval_batch_size"], find_reference(record)
        device = find_device(settings["use_cpu"])
        outputs = run_batches(model, reference, rows, self._collator(processor), size, device)
        kept = self._by_row(outputs, size)
        labels = rows[LABEL] if LABEL in rows.column_names else np.ones(len(kept))
        return Scored(kept, self.score(EvalPrediction(predictions=kept, label_ids=np.asarray(labels))))

    def _by_row(self, outputs: np.ndarray, size: int) -> np.ndarray:
        return outputs

    def _answers(self, columns: Columns) -> tuple[str, ...]:
        """The columns of answers, in the order of `encoded`."""
        raise NotImplementedError

    @property
    def _trainer(self) -> Any:
        raise NotImplementedError

    def _collator(self, processor: PreTrainedTokenizerBase) -> Any:
        raise NotImplementedError


def import_trainer() -> Any:
    """The module of the trainers.

    Raises: MissingExtraError, if TRL is not installed.
    """
    return importlib.import_module("fourierft.training.preferences.trainer")

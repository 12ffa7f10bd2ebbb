"""Labels of words: every word of a sentence has a tag, such as of names in it (token classification)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from peft import TaskType
from torch import Tensor, nn
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

from fourierft import __version__
from fourierft.errors import ConfigError, DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import as_text, column_names, is_blank, place_at, place_of, read_cell, read_column
from fourierft.training.cells import shorten as begin
from fourierft.training.columns import Columns, check_columns, find_column, named_classes, require_columns
from fourierft.training.families.family import Family
from fourierft.training.families.outputs import outputs_of
from fourierft.training.families.spans import OUTSIDE, Span, find_spans, stray_tags, tells_names
from fourierft.training.families.texts import (
    CUT,
    LABEL_COLUMNS,
    TEXT_COLUMNS,
    WORD_COLUMNS,
    TextRows,
    select_inputs,
    tell_cut,
)
from fourierft.training.labels import (
    IGNORED,
    Where,
    by_index,
    by_number,
    class_name,
    named_outputs,
    number_labels,
    read_list,
    shorten,
)
from fourierft.training.models import load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

TAG_COLUMNS = ("ner_tags", "tags", "pos_tags")
TWO = "the number of tags, taken to be two, as the data are not here and do not name them"


class TokenClasses(TextRows):
    """A tag for each word, which its first token is to give; the loss is a mean over words.

    Where tags say how names begin and go on (B-PER, I-PER, also E-, S-, L-, U-), a name is right if its words and its
    kind are: `precision` is of the names predicted, `recall` of those in the data, `f1` their harmonic mean. `accuracy`
    is the share of words with the right tag, and the one metric of other tags.
    """

    name, kind = "token_classification", "words"
    model_class: ClassVar[Any] = AutoModelForTokenClassification
    task_type: ClassVar[TaskType | None] = TaskType.TOKEN_CLS
    pipeline_tag = "token-classification"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what `score` returns, the main one first."""
        return ("f1", "precision", "recall", "accuracy") if tells_names(self.labels) else ("accuracy",)

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether there are words and tags, called as usual, and no text with a label; or it was named."""
        if data.image_column or rows is None or data.task == self.name:
            return data.task == self.name and not data.image_column
        columns = set(column_names(rows))
        is_text = bool(columns & set(LABEL_COLUMNS)) and any(set(names) <= columns for names in TEXT_COLUMNS)
        is_named = data.text_column or data.label_column
        return bool(columns & set(WORD_COLUMNS) and columns & {*TAG_COLUMNS, *LABEL_COLUMNS}) and not (
            is_text or is_named
        )

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of words and tags: those named, else those of the usual names.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        require_columns(rows, [*(wanted or []), *([label] if label else [])])
        if wanted is not None and len(wanted) != 1:
            raise DataError(f"text_column names {len(wanted)} columns; name the one of the words")
        if not wanted and not set(WORD_COLUMNS) & set(column_names(rows)):
            raise DataError(
                f"no column among {', '.join(column_names(rows))} is named {' or '.join(WORD_COLUMNS)}, "
                "as lists of words are; name it with --text_column"
            )
        words = find_column(rows, wanted[0] if wanted else None, WORD_COLUMNS, "text")
        return Columns((words,), find_column(rows, label, (*TAG_COLUMNS, *LABEL_COLUMNS), "label"))

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a column, or one has not as many tags as words."""
        check_columns(rows, columns)
        pairs = zip(*(read_column(rows, column) for column in (*columns.inputs, columns.label)), strict=True)
        for index, (words, tags) in enumerate(pairs):
            for column, value, setting in (
                (columns.inputs[0], words, "text_column"),
                (columns.label, tags, "label_column"),
            ):
                cells = read_list(value)
                if not cells or any(is_blank(cell) or as_text(cell) is None for cell in cells):
                    what = "is empty" if is_blank(value) or cells == [] else f"holds {begin(value)}"
                    raise DataError(
                        f"column {column} {what} in {place_at(rows, index)}, which is not a list "
                        f'of words; write one, as ["a", "b"], remove the row, or name another --{setting}'
                    )
            if len(read_list(words) or ()) != len(read_list(tags) or ()):
                raise DataError(
                    f"{place_at(rows, index)} has {len(read_list(words) or ())} words in {columns.inputs[0]}, "
                    f"but {len(read_list(tags) or ())} tags in {columns.label}; give each word "
                    "one tag"
                )

    def learn(
        self, values: Sequence[Any], column: str, declared: Sequence[str], where: Where, is_named: bool
    ) -> Family | None:
        """The tags that the data set names, or else those found, sorted.

        Raises: DataError, if there is but one.
        """
        found = {class_name(tag) for value in values for tag in read_list(value) or ()}
        if len(found) < 2:
            raise DataError(f"column {column} has only the tag {shorten(sorted(found))}; training needs at least two")
        return replace(self, labels=tuple(declared or sorted(found, key=by_number)))

    def expect(self, feature: Any, is_named: bool) -> Family | None:
        """The tags that the data set names, or else two."""
        names = named_classes(feature)
        return replace(self, labels=tuple(names)) if names else self.guess()

    def guess(self) -> Family:
        return replace(self, labels=(f"B-{OUTSIDE}", OUTSIDE), assumption=TWO)

    def model_settings(self) -> dict[str, Any]:
        return named_outputs(self.labels)

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> PreTrainedTokenizerBase:
        """The tokenizer; one of bytes, such as RoBERTa's, is told that a word has a blank before it.

        Raises: ConfigError, if it can't tell which word a token is of.
        """
        tokenizer = load_tokenizer(arguments)
        if not tokenizer.is_fast:
            raise ConfigError(
                f"the tokenizer of {arguments.model_name_or_path} does not tell which word a token is of; use a model "
                "with a tokenizer.json"
            )
        if getattr(tokenizer, "add_prefix_space", None) is False:
            tokenizer = load_tokenizer(arguments, add_prefix_space=True)
        return tokenizer

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[list[int]]:
        """Numbers of the tags of every word; DataError, if one was not in the training data."""
        named = [(row, class_name(tag)) for row, value in enumerate(values) for tag in read_list(value) or ()]
        numbers = number_labels([name for _, name in named], self.labels, lambda place: where(named[place][0]), False)
        encoded: list[list[int]] = [[] for _ in values]
        for (row, _), number in zip(named, numbers, strict=True):
            encoded[row].append(number)
        return encoded

    def encode_rows(
        self, rows: Dataset, columns: Columns, labels: list[Any], processor: PreTrainedTokenizerBase, limit: int | None
    ) -> Dataset:
        """The rows as the model reads them, cut to `limit` tokens: a word's first token has its tag, all others have
        IGNORED. The number of rows that were cut is printed.

        Args:
            labels: a list of tags a row, encoded.

        Raises: DataError, if the tokenizer leaves out a word, or `limit` all words of a row.
        """

        def encode(row: dict[str, Any], index: int, version: str) -> dict[str, Any]:
            words = [as_text(word) for word in read_list(read_cell(row[columns.inputs[0]])) or ()]
            encoded = processor(words, is_split_into_words=True, truncation=True, max_length=limit)
            tags, last = [], -1
            for number in encoded.word_ids():
                is_first = number is not None and number != last
                if is_first and number != last + 1:
                    break
                tags.append(labels[index][number] if is_first else IGNORED)
                last = number if is_first else last
            if last + 1 < len(words):  # cut, or words of no tokens
                kept = {*processor(words, is_split_into_words=True, truncation=False, verbose=False).word_ids()}
                lost = next((word for number, word in enumerate(words) if number not in kept), None)
                if lost is not None:
                    raise DataError(
                        f"the tokenizer has no token for the word {lost!r} in {place_of(row, index)}; "
                        "replace or remove it"
                    )
            if last < 0:
                raise DataError(
                    f"no word of {place_of(row, index)} is left within max_length={limit} tokens; raise --max_length, "
                    "or remove the row"
                )
            return {**encoded, "labels": tags, CUT: last + 1 < len(words)}

        given = select_inputs(rows, columns)
        encoded = given.map(
            encode,
            with_indices=True,
            remove_columns=given.column_names,
            fn_kwargs={"version": __version__},  # what another release made is not taken from the cache
            desc="Tokenizing",
        )
        return tell_cut(encoded, rows, limit)

    def start(self, train: Any, data: DataArguments, seed: int) -> list[TrainerCallback]:
        """Nothing to be called; that tags are of two kinds, so that no names are found, is printed."""
        stray = stray_tags(self.labels)
        if stray:
            print(
                f"some tags begin with B- or I-, as in names, but {shorten(stray)} does "
                f"not, so names are not scored; write {OUTSIDE} for words outside names",
                flush=True,
            )
        return super().start(train, data, seed)

    def collator(self, processor: PreTrainedTokenizerBase) -> Any:
        return DataCollatorForTokenClassification(processor, label_pad_token_id=IGNORED)

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(rows, *shape, dtype=torch.long)

    def row_counts(self, labels: Tensor) -> Tensor:
        return (labels != IGNORED).sum(1).float()

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits [rows, tokens, tags]."""
        return nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1)

    def reduce(self, logits: Any, labels: Tensor) -> Tensor:
        """The likeliest tag of each token that has one, else IGNORED: [rows, tokens]."""
        logits = logits[0] if isinstance(logits, tuple) else logits
        return torch.where(labels == IGNORED, labels, logits.argmax(dim=-1))

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The share of words that are right, and how well names are found, of tags [rows, tokens]."""
        expected, predicted = np.asarray(prediction.label_ids), outputs_of(prediction)
        counted = expected != IGNORED
        scores = {"accuracy": float((expected == predicted)[counted].mean())}
        if tells_names(self.labels):
            there, found = (self._find_all(numbers, counted) for numbers in (expected, predicted))
            right = len(there & found)
            scores |= {
                "precision": right / len(found) if found else 0.0,
                "recall": right / len(there) if there else 0.0,
                "f1": 2 * right / (len(there) + len(found)) if there or found else 0.0,
            }
        return {name: scores[name] for name in self.metrics}

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """The tags of the words of every row of [rows, tokens], and the names they make; words cut off have none."""
        tagged = [self.shown(row[row != IGNORED].astype(int).tolist()) for row in outputs]
        if not tells_names(self.labels):
            return [{"prediction": tags} for tags in tagged]
        return [{"prediction": tags, "spans": [span._asdict() for span in find_spans(tags)]} for tags in tagged]

    def shown(self, label: Sequence[int]) -> list[str]:
        """The tags of the words of a row."""
        return [self.labels[number] for number in label]

    def _find_all(self, numbers: np.ndarray, counted: np.ndarray) -> set[tuple[int, Span]]:
        rows = (self.shown(row[own].astype(int).tolist()) for row, own in zip(numbers, counted, strict=True))
        return {(place, span) for place, tags in enumerate(rows) for span in find_spans(tags)}


FAMILIES = (TokenClasses(),)

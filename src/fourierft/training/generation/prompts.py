"""What is to be generated: prompts of a data set, each once, with all the texts that people wrote for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments
from fourierft.training.cells import as_text, place_at
from fourierft.training.columns import label_values
from fourierft.training.data import load_test
from fourierft.training.families.answers import Answers
from fourierft.training.generation.decoding import Decoding
from fourierft.training.models import context_length
from fourierft.training.prompts import encode_pair, join


@dataclass(frozen=True)
class Item:
    """A prompt and its references."""

    prompt: str
    references: list[str]


def load_items(data: DataArguments, prompt: list[str] | None, reference: str | None, seed: int) -> list[Item]:
    """The prompts of a data set in the order they first appear, each once, with all its references.

    Args:
        data: `test_file`, or a data set and its `test_split_name`, and its columns if they are not those of `prompt`
            and `reference`. `max_eval_samples` counts prompts. A column of references may hold lists.
        prompt, reference: columns, if `data` names none.
        seed: draws the prompts of `max_eval_samples`.

    Raises: DataError, if a column is missing, empty, or holds something else than text.
    """
    rows = load_test(data)
    family = Answers()
    columns = family.find_columns(rows, data.text_column or prompt, data.label_column or reference)
    family.check_rows(rows, columns)
    groups: dict[str, list[str]] = {}
    given = label_values(rows, columns.label)
    for index, row in enumerate(family.describe(rows, columns)):
        value = given[index]
        references = [as_text(text) or "" for text in (value if isinstance(value, list) else [value])]
        if not references or not all(text.strip() for text in references):
            raise DataError(f"reference {value!r} in {place_at(rows, index)} is not a text; fill or remove it")
        groups.setdefault(join([row[name] for name in columns.inputs]), []).extend(references)
    items = [Item(text, references) for text, references in groups.items()]
    limit = data.max_eval_samples
    if limit is None or limit >= len(items):
        return items
    if limit < 1:
        raise DataError(f"a limit of {limit} samples leaves no prompts; use at least 1")
    return [items[index] for index in sorted(random.Random(seed).sample(range(len(items)), limit))]


def encode_prompts(
    items: Sequence[Item], model: Any, tokenizer: PreTrainedTokenizerBase, decoding: Decoding
) -> list[list[int]]:
    """The tokens of each prompt, as the training wrote them.

    Raises: DataError, if one leaves no room for an answer.
    """
    prompts = [encode_pair(item.prompt, "a", tokenizer)[0] for item in items]
    limit = context_length(model, tokenizer)
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) + decoding.max_new_tokens > limit:
            raise DataError(
                f"prompt {number} of the test data has {len(prompt)} tokens, which leaves no room for max_new_tokens="
                f"{decoding.max_new_tokens} in the {limit} tokens this model takes; lower that, or remove the row"
            )
    return prompts

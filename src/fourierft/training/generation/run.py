"""From a trained model and test data to texts and their metrics; what was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from fourierft.bars import bar
from fourierft.errors import ConfigError
from fourierft.training import output
from fourierft.training.arguments import DataArguments
from fourierft.training.assets import hash_file
from fourierft.training.devices import find_device
from fourierft.training.evaluation import load_trained
from fourierft.training.families.answers import Answers
from fourierft.training.generation.decoding import Decoding, generate_texts
from fourierft.training.generation.files import append_text, find_texts, start_folder, write_results
from fourierft.training.generation.metrics import require_metrics, score_texts
from fourierft.training.generation.prompts import Item, encode_prompts, load_items
from fourierft.training.generation.wordnet import WordNet, find_wordnet
from fourierft.training.lock import held


def generate(
    directory: str | Path,
    data: DataArguments,
    folder: str | Path,
    decoding: Decoding | None = None,
    *,
    base_model: str | None = None,
    batch_size: int = 32,
    seed: int = 42,
    use_cpu: bool = False,
    without_adapter: bool = False,
    wordnet: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    allow_other_base: bool = False,
) -> dict[str, Any]:
    """Let what `fourierft train` wrote answer the prompts of a data set, and score the answers.

    Args:
        directory: its output directory.
        data: `test_file`, or a data set and its `test_split_name`; columns are the training's if not given. Rows of one
            prompt are one item with several references. `max_eval_samples` counts items.
        folder: of the results; the same call again goes on with what is missing, or scores what is there.
        decoding: how to search; `Decoding()` if None.
        base_model: where the base model is, if it moved since.
        batch_size: prompts at a time.
        seed: draws the items of `max_eval_samples`.
        without_adapter: let the base model answer instead.
        wordnet: folder of WordNet's files, for METEOR; `find_wordnet` looks for it if None.
        overwrite: replace the results of another call.
        quiet: leave the progress bar out.
        allow_other_base: as of `load_trained`.

    Returns: the content of metrics.json.

    Raises: FourierFTError, if anything given is wrong. OutputExistsError, if `folder` holds something else. BusyError,
        if another process writes there.
    """
    require_metrics()
    found = find_wordnet(wordnet)
    synonyms = None if found is None else WordNet(found)
    decoding, folder = decoding or Decoding(), Path(folder)
    record = output.read_record(directory)
    if record.get("inputs") != Answers.kind:
        raise ConfigError(
            f"{directory} was trained for {record['task']} and cannot generate texts; leave --generate out"
        )
    if without_adapter and not record["is_adapter"]:
        raise ConfigError(
            f"{directory} is not an adapter, so --without_adapter does not apply; give an adapter's folder"
        )
    items = load_items(data, record["text_columns"], record["label_column"], seed)
    settings = {
        "base_model": record["base_model"],
        "weights": None if without_adapter else _hash_weights(Path(directory)),
        "items": hashlib.sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest(),
        **asdict(decoding),
    }
    output.check_directory(folder)
    with held(folder):
        texts = find_texts(folder, settings, overwrite)
        if len(texts) < len(items):
            trained = load_trained(directory, base_model, allow_other_base)
            model: Any = trained.model.to(find_device(use_cpu))
            prompts = encode_prompts(items, model, trained.processor, decoding)
            start_folder(folder, settings)
            with model.disable_adapter() if without_adapter else nullcontext():
                missing = {index: prompt for index, prompt in enumerate(prompts) if index not in texts}
                for index, text in generate_all(model, trained.processor, missing, decoding, batch_size, quiet):
                    append_text(folder, index, text)
                    texts[index] = text
        metrics = score_items(items, [texts[index] for index in range(len(items))], synonyms)
        metrics |= {"decoding": asdict(decoding), "without_adapter": without_adapter}
        write_results(folder, items, [texts[index] for index in range(len(items))], metrics)
    return metrics


def generate_all(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[int, list[int]],
    decoding: Decoding,
    batch_size: int,
    quiet: bool = False,
) -> Iterator[tuple[int, str]]:
    """Texts by the number of their prompt, as they are finished, with a progress bar.

    Args:
        prompts: tokens by number; those of like length share a batch, which needs little padding then.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} is too small; use at least 1")
    order = sorted(prompts, key=lambda index: (len(prompts[index]), index))
    with bar(None, "generating", "texts", not quiet, total=len(order)) as progress:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            yield from zip(
                batch, generate_texts(model, tokenizer, [prompts[index] for index in batch], decoding), strict=True
            )
            progress.update(len(batch))


def score_items(items: Sequence[Item], texts: Sequence[str], synonyms: WordNet | None) -> dict[str, Any]:
    """The five metrics, of how many texts against how many references, and whether METEOR knew synonyms."""
    return {
        **score_texts(texts, [item.references for item in items], synonyms),
        "items": len(items),
        "references": sum(len(item.references) for item in items),
        "meteor_synonyms": synonyms is not None,
    }


def _hash_weights(directory: Path) -> dict[str, str]:
    return {file.name: hash_file(file) for file in sorted(directory.glob("*.safetensors"))}

"""What the models of a comparison write for held-out prompts, scored as texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fourierft.training.arguments import Arguments, DataArguments
from fourierft.training.generation.decoding import Decoding
from fourierft.training.generation.files import PREDICTIONS
from fourierft.training.generation.metrics import require_metrics
from fourierft.training.generation.prompts import encode_prompts, load_items
from fourierft.training.generation.run import generate, generate_all, score_items
from fourierft.training.generation.wordnet import WordNet, find_wordnet
from fourierft.training.output import read_json_lines
from fourierft.training.plan import Plan

EXAMPLES = 3


def score_written(directory: Path, arguments: Arguments, decoding: Decoding) -> dict[str, Any]:
    """Metrics and the first texts of a finished training, whose `texts` folder keeps them all."""
    settings = arguments.training
    metrics = generate(
        directory,
        held_out(arguments.data),
        directory / "texts",
        decoding,
        batch_size=settings.per_device_eval_batch_size,
        seed=settings.seed,
        use_cpu=settings.use_cpu,
        quiet=True,
    )
    return {**metrics, "examples": read_json_lines(directory / "texts" / PREDICTIONS)[:EXAMPLES]}


def score_pretrained(plan: Plan, decoding: Decoding) -> dict[str, Any]:
    """The same of a model that is not trained."""
    require_metrics()
    settings, columns = plan.arguments.training, plan.setup.columns
    model: Any = plan.trainable.model.eval()
    processor = plan.setup.processor
    items = load_items(held_out(plan.arguments.data), list(columns.inputs), columns.label, settings.seed)
    prompts = dict(enumerate(encode_prompts(items, model, processor, decoding)))
    texts = dict(generate_all(model, processor, prompts, decoding, settings.per_device_eval_batch_size, quiet=True))
    found = find_wordnet()
    written = [texts[index] for index in range(len(items))]
    examples = [
        {"prompt": item.prompt, "prediction": text, "references": item.references}
        for item, text in zip(items[:EXAMPLES], written, strict=False)
    ]
    return {**score_items(items, written, None if found is None else WordNet(found)), "examples": examples}


def held_out(data: DataArguments) -> DataArguments:
    """The data to write for: that to test on if there is any, else that to validate on."""
    if data.test_file or (data.dataset_name and not data.validation_file):
        return data
    return replace(data, test_file=data.validation_file)

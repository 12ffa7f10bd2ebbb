"""What a trained model makes of rows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from transformers import EvalPrediction, TrainingArguments

from fourierft.adapters.card import is_score
from fourierft.training.trainer import HeadTrainer


class Scored(NamedTuple):
    """What was made of rows, one each, and the metrics of it."""

    outputs: np.ndarray
    metrics: dict[str, float]


def predict(
    family: Any, model: nn.Module, rows: Any, processor: Any, record: Mapping[str, Any], settings: Mapping[str, Any]
) -> Scored:
    """Run a model on encoded rows by Trainer.

    Args:
        family: a `Family`.
        record: what the training wrote of itself.
        settings: of transformers' TrainingArguments, such as the size of a batch.
    """
    with tempfile.TemporaryDirectory() as unused:
        trainer = HeadTrainer(
            model=model,
            args=TrainingArguments(output_dir=unused, label_names=["labels"], **settings),
            data_collator=family.collator(processor),
            processing_class=processor,
            compute_metrics=family.score,
            preprocess_logits_for_metrics=family.reduce,
            heads=tuple(record["heads"]),
            head_learning_rate=None,
        )
        result: Any = trainer.predict(rows, metric_key_prefix="test")
    metrics = {name.removeprefix("test_"): value for name, value in (result.metrics or {}).items()}
    return Scored(outputs_of(result), {name: value for name, value in metrics.items() if is_score(name)})


def outputs_of(prediction: EvalPrediction) -> np.ndarray:
    """The first of a model's outputs for all rows."""
    outputs = prediction.predictions
    return np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)

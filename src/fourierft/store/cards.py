"""The model card of an adapter that leaves a store, where the training that made it left its record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierft.adapters.card import (
    CARD_FILE,
    Card,
    describe_base,
    describe_method,
    evaluation_note,
    loading_code,
    read_scores,
)


def write_card(
    name: str,
    record: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    facts: Sequence[tuple[str, str]],
    folder: Path,
) -> None:
    """Write a card; none, if the record is not one of `fourierft train` or `fourierft fleet train`, or of an older one.

    Args:
        name: of the adapter.
        record: text of its fourierft.json.
        config: content of its adapter_config.json.
        metrics: that came with it.
        facts: (what, text) of what the store knows.
        folder: of the adapter.
    """
    try:
        card = _make(name, json.loads(record), config, metrics, facts)
    except (ValueError, TypeError, LookupError, AttributeError):  # a caller may give an adapter any record
        return
    card.write(folder / CARD_FILE)


def _make(
    name: str, record: Any, config: Mapping[str, Any], metrics: Mapping[str, Any], facts: Sequence[tuple[str, str]]
) -> Card:
    scores = read_scores(metrics)
    rows = [(score.metric, f"{score.value:.4f}", f"{score.split} data") for score in scores]
    inputs = " and ".join(f"`{column}`" for column in record["text_columns"])
    processor = record.get("tokenizer") or record["base_model"]
    return Card(
        title=f"{name}: {record['method']} on {Path(record['base_model']).name}",
        about=f"{record['task'].replace('_', ' ').capitalize()} of {inputs} by `{record['label_column']}`.",
        record=record,
        pipeline_tag=record["loading"]["pipeline_tag"],
        facts=[
            ("Base model", describe_base(record)),
            ("Data", str(record["data"])),
            *([("Outputs", ", ".join(map(str, record["labels"])))] if record["labels"] else []),
            ("Method", describe_method(record, config)),
            *facts,
        ],
        code=loading_code(record, config, processor=processor),
        scores=[score for score in scores if score.metric != "loss"],
        table=[("metric", "value", "of"), *rows] if rows else [],
        notes=("", evaluation_note(record)),
    )

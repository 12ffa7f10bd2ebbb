"""What a model makes of preferences: log-probabilities of answers, its own and those of what it was; rewards; scores.

The reward of an answer is beta * (log p - log p_reference), p being the probability of all its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourierft.errors import CheckpointError
from fourierft.format.checkpoint import find_checkpoint
from fourierft.format.config import WEIGHTS_FILE
from fourierft.training.labels import IGNORED
from fourierft.training.starting import describe_start, load_beside, read_weights

REFERENCE = "reference"


def expected_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """The tokens of a batch that belong to answers, IGNORED elsewhere: [rows, tokens]."""
    return batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)


def answer_logps(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """log p of the answer of each row of a batch, in float32: [rows]."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    expected = expected_tokens(batch)[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), expected, ignore_index=IGNORED, reduction="none"
    )
    return -losses.sum(dim=1)


def find_reference(record: Mapping[str, Any]) -> Path | None:
    """The folder of the adapter that a training went on from, which is its reference; None if that is the base.

    Args:
        record: what the training wrote of itself; an earlier release's tells no digest.

    Raises: CheckpointError, if it is not there, or another one is.
    """
    start, before = record["start"], record.get("start_digest")
    if start is None:
        return None
    try:
        folder = find_checkpoint(start)
        read_weights(folder / WEIGHTS_FILE)
    except CheckpointError as error:
        raise CheckpointError(f"the training's reference is the adapter that it continued from: {error}") from error
    now = before and describe_start(str(folder))
    if now != before:
        raise CheckpointError(
            f"the training's reference is the adapter that it continued from, but {start} "
            f"has changed since ({before} before, {now} now); restore the old one, or "
            "train again"
        )
    return folder


@torch.no_grad()
def run_batches(
    model: Any, start: Path | None, rows: Any, collator: Any, size: int, device: torch.device
) -> np.ndarray:
    """log p of the answers of all rows, the model's own and those of its reference: [batch rows of all, 2].

    Args:
        model: a PeftModel.
        start: folder of the adapter that it went on from, which is its reference; the base if None.
        rows: encoded.
        size: rows of a batch.
    """
    model.to(device).eval()
    found = []
    with _reference_loaded(model, start):
        for begin in range(0, len(rows), size):
            batch = collator([rows[index] for index in range(begin, min(begin + size, len(rows)))])
            batch = {name: value.to(device) for name, value in batch.items()}
            own = answer_logps(model, batch)
            with _reference_active(model, start):
                before = answer_logps(model, batch)
            found.append(torch.stack([own, before], dim=1).cpu().numpy())
    return np.concatenate(found)


@contextmanager
def _reference_loaded(model: Any, start: Path | None) -> Iterator[None]:
    if start is None:
        yield
        return
    load_beside(model, start, REFERENCE)
    try:
        yield
    finally:
        model.delete_adapter(REFERENCE)


@contextmanager
def _reference_active(model: Any, start: Path | None) -> Iterator[None]:
    if start is None:
        with model.disable_adapter():
            yield
        return
    active = model.active_adapter
    model.set_adapter(REFERENCE)
    try:
        yield
    finally:
        model.set_adapter(active)


def pair_rewards(outputs: np.ndarray, beta: float) -> np.ndarray:
    """Rewards of chosen and rejected [rows, 2], of [rows, 4]: log p of both, then those of the reference."""
    outputs = outputs.astype(np.float64)
    return beta * (outputs[:, :2] - outputs[:, 2:])


def score_pairs(outputs: np.ndarray, beta: float) -> dict[str, float]:
    """The share of pairs whose chosen answer has the larger reward, a tie counting half; mean margin; DPO's loss."""
    rewards = pair_rewards(outputs, beta)
    margins = rewards[:, 0] - rewards[:, 1]
    return {
        "preference_accuracy": float(((margins > 0) + 0.5 * (margins == 0)).mean()),
        "reward_margin": float(margins.mean()),
        "preference_loss": float(np.logaddexp(0, -margins).mean()),
    }


def score_feedback(outputs: np.ndarray, labels: Sequence[Any], beta: float) -> dict[str, float]:
    """How often a good answer has a larger reward than a bad one, over all such two; how much larger in the mean.

    Args:
        outputs: [rows, 2], log p and that of the reference.
        labels: whether each is good.
    """
    rewards = beta * np.subtract(*outputs.astype(np.float64).T)
    is_good = np.asarray(labels).astype(bool).reshape(-1)
    good, bad = np.sort(rewards[is_good]), np.sort(rewards[~is_good])
    if not len(good) or not len(bad):
        return {"preference_accuracy": float("nan"), "reward_margin": float("nan")}
    below, upto = np.searchsorted(bad, good, "left"), np.searchsorted(bad, good, "right")
    return {
        "preference_accuracy": float((below + upto).mean() / 2 / len(bad)),
        "reward_margin": float(good.mean() - bad.mean()),
    }

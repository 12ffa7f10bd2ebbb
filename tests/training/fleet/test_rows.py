"""Row by row, losses are those of transformers' own models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fourierft.training.fleet.rows import row_counts, row_losses


def test_classes_and_numbers_count_one_a_row() -> None:
    logits, labels, numbers = torch.randn(5, 3), torch.randint(0, 3, (5,)), torch.randn(5)
    losses, counts = row_losses(logits, labels, "classification"), row_counts(labels, "classification")
    torch.testing.assert_close(losses.sum() / counts.sum(), nn.functional.cross_entropy(logits, labels))
    losses, counts = row_losses(logits[:, :1], numbers, "regression"), row_counts(numbers, "regression")
    torch.testing.assert_close(losses.sum() / counts.sum(), nn.functional.mse_loss(logits[:, 0], numbers))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_answers_count_their_tokens(tiny_llama) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    ids = torch.randint(3, 20, (4, 6))
    labels = ids.masked_fill(torch.arange(6)[None] < torch.tensor([1, 4, 2, 3])[:, None], -100)
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels)
    losses, counts = row_losses(out.logits, labels, "answers"), row_counts(labels, "answers")
    assert counts.tolist() == [5, 2, 4, 3]
    torch.testing.assert_close(losses.sum() / counts.sum(), out.loss)

"""Row by row, losses are those of transformers' own models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fourierft.training.families.answers import Answers
from fourierft.training.families.chats import Chats
from fourierft.training.families.classes import Classification
from fourierft.training.families.regression import Regression

CLASSES = Classification(("a", "b", "c"))


def test_classes_and_numbers_count_one_a_row() -> None:
    logits, labels, numbers = torch.randn(5, 3), torch.randint(0, 3, (5,)), torch.randn(5)
    losses, counts = CLASSES.row_losses(logits, labels), CLASSES.row_counts(labels)
    torch.testing.assert_close(losses.sum() / counts.sum(), nn.functional.cross_entropy(logits, labels))
    losses, counts = Regression().row_losses(logits[:, :1], numbers), Regression().row_counts(numbers)
    torch.testing.assert_close(losses.sum() / counts.sum(), nn.functional.mse_loss(logits[:, 0], numbers))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("task", [Answers(), Chats()])
def test_answers_count_their_tokens(tiny_llama: Path, task: Answers) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    ids = torch.randint(3, 20, (4, 6))
    labels = ids.masked_fill(torch.arange(6)[None] < torch.tensor([1, 4, 2, 3])[:, None], -100)
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels)
    losses, counts = task.row_losses(out.logits, labels), task.row_counts(labels)
    assert counts.tolist() == [5, 2, 4, 3]
    torch.testing.assert_close(losses.sum() / counts.sum(), out.loss)

"""TRL's SFTTrainer over rows that are tokens already, with scores by the token and float32 adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from fourierft.extras import needs
from fourierft.training.trainer import SteadyTrainer

with needs("chat", "task=chat"):
    from trl import SFTConfig, SFTTrainer, pack_dataset


class ChatTrainer(SteadyTrainer, SFTTrainer):
    """An SFTTrainer whose adapter keeps its dtype, and whose metrics are those of `families.answers.Answers`.

    Args:
        model: with what is trained of it chosen.
        args: transformers' settings.
        packing: put several rows into one of `max_length` tokens; they do not see each other.
        options: of SFTTrainer; the rows have `input_ids` and `labels`.
    """

    def __init__(
        self, model: Any, args: TrainingArguments, packing: bool, max_length: int | None, **options: Any
    ) -> None:
        given = {**args.to_dict(), "hub_token": args.hub_token}
        config = SFTConfig(**given, packing=packing, eval_packing=False, max_length=max_length)
        with kept_dtypes(model):
            super().__init__(model=model, args=config, **options)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Trainer's, a row of its own for each row: those of packed training stand in one."""
        with self._padding():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        with self._padding():
            return super().get_test_dataloader(test_dataset)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The loss of a batch, what `Answers.reduce` makes of its logits, without making logits, and its labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            found = model(**inputs, use_cache=False, fused_lm_head=True)
        counts = (-found.log_probs, found.is_top1, found.label_mask)
        reduced = torch.stack([count.float().sum(dim=1) for count in counts], dim=1)  # [rows, 3]
        loss = reduced[:, 0].sum() / reduced[:, 2].sum()
        return (loss, None, None) if prediction_loss_only else (loss, reduced, inputs["labels"])

    def more_to_log(self) -> dict[str, Any]:
        """TRL's means since the last line of the log, and its count of tokens."""
        return {"metrics": self._metrics["train"], "tokens": self._total_train_tokens}

    def go_on_logging(self, kept: Mapping[str, Any]) -> None:
        self._metrics["train"].update(kept["metrics"])
        self._total_train_tokens = kept["tokens"]

    def create_model_card(self, *arguments: Any, **options: Any) -> None:
        """Nothing: a training writes its own when it is done."""

    @contextmanager
    def _padding(self) -> Iterator[None]:
        collator: Any = self.data_collator
        self.data_collator = replace(collator, padding_free=False)
        try:
            yield
        finally:
            self.data_collator = collator


def count_packed(rows: Any, max_length: int) -> int:
    """The number of rows of `max_length` tokens into which `rows` are packed."""
    return len(pack_dataset(rows.select_columns("input_ids"), max_length, SFTConfig.packing_strategy))


@contextmanager
def kept_dtypes(model: nn.Module) -> Iterator[None]:
    """Trained parameters as they were: over a quantised base SFTTrainer rounds them to bfloat16, as QLoRA does."""
    before = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data = before[name].to(parameter.device)

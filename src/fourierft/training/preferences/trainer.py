"""TRL's trainers of DPO and KTO over rows that are tokens already, with one adapter in the model.

The reference is the model as the training begins: the base, or the adapter that it goes on from. Its log-probabilities
are computed once, and stand in columns of the rows, so that no copy of the adapter is trained beside, saved or resumed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from fourierft.errors import ConfigError
from fourierft.extras import needs, release
from fourierft.training.chat.trainer import kept_dtypes
from fourierft.training.preferences.outcome import expected_tokens
from fourierft.training.trainer import SteadyTrainer

with needs("chat", "task=preferences"):
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

FIRST_TRL = (1, 16)  # whose trainers have such rows
COPY = "ref"  # what TRL calls the adapter that is the reference


class PreferenceTrainer(SteadyTrainer):
    """What both have in common; stands before TRL's trainer among the bases.

    Args:
        model: a PeftModel, its adapter chosen to be trained.
        args: transformers' settings.
        config_class: TRL's settings.
        beta: as in the papers.
        options: of TRL's trainer; the rows have `prompt_ids` and what the collator takes beside.
    """

    _precompute_model_hash: Any
    data_collator: Any

    def __init__(self, model: Any, args: TrainingArguments, config_class: Any, beta: float, **options: Any) -> None:
        given = {**args.to_dict(), "hub_token": args.hub_token, "precompute_ref_log_probs": True, "max_length": None}
        if config_class is KTOConfig:
            given["train_sampling_strategy"] = "sequential"
        self._start = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        with kept_dtypes(model):
            super().__init__(model=model, args=config_class(**given, beta=beta), **options)
        self.model.delete_adapter(COPY)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """The rows as they are."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """TRL's, with the model as it was, also when it has been trained since; nothing, where it is done."""
        if any(column.startswith("ref_") for column in dataset.column_names):
            return dataset
        with nullcontext() if COPY in self.model.peft_config else self._as_it_was():
            return super()._precompute_ref_logps(dataset, name, batch_size)  # type: ignore[misc]

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        model = self.accelerator.unwrap_model(self.model)
        model.add_adapter(COPY, copy.copy(model.peft_config["default"]))
        with torch.no_grad():
            for name, values in self._start.items():
                model.get_parameter(name.replace(".default.", f".{COPY}.")).copy_(values)
        try:
            yield
        finally:
            model.delete_adapter(COPY)

    def _answer_logps(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """log p of the answer of each row of a batch, as TRL has it: [rows]."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad(), self.compute_loss_context_manager():  # type: ignore[attr-defined]
            found = model(**read, labels=expected_tokens(inputs), use_cache=False, fused_lm_head=True)
        return found.log_probs.sum(dim=1)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The loss of a batch, log p of its answers and of the reference's, and labels: whether they are good."""
        inputs = self._prepare_inputs(inputs)  # type: ignore[attr-defined]
        with torch.no_grad(), self.compute_loss_context_manager():  # type: ignore[attr-defined]
            loss = self.compute_loss(model, inputs)  # type: ignore[attr-defined]
        return (loss, None, None) if prediction_loss_only else (loss, *self._scored(model, inputs))

    def _scored(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Outputs and labels of `prediction_step`."""
        raise NotImplementedError

    def create_model_card(self, *arguments: Any, **options: Any) -> None:
        """Nothing: a training writes its own when it is done."""


class PairTrainer(PreferenceTrainer, DPOTrainer):
    """DPO over rows with `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(config_class=DPOConfig, **options)

    def _scored(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        own = self._answer_logps(model, inputs).chunk(2)
        outputs = torch.stack([*own, inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]], dim=1)  # [rows, 4]
        return outputs, torch.ones(len(outputs), device=outputs.device)


class FeedbackTrainer(PreferenceTrainer, KTOTrainer):
    """KTO over rows with `prompt_ids`, `completion_ids` and `label`, in an order drawn by the seed, once for all."""

    def __init__(self, args: TrainingArguments, train_dataset: Any, **options: Any) -> None:
        train_dataset = train_dataset.shuffle(seed=args.seed)
        super().__init__(args=args, train_dataset=train_dataset, config_class=KTOConfig, **options)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """The rows, each with the answer of another of its batch, by which TRL estimates the divergence."""
        size = args.per_device_train_batch_size

        def add(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
            answers = rows["completion_ids"]
            return {"KL_completion_ids": answers[-1:] + answers[:-1]}

        return dataset.map(add, batched=True, batch_size=size)

    def _scored(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        outputs = torch.stack([self._answer_logps(model, inputs), inputs["ref_logps"]], dim=1)  # [rows, 2]
        return outputs, inputs["label"]


def pair_collator(pad_token_id: int) -> Any:
    """Makes a batch of pairs: the chosen answers, then the rejected."""
    return DataCollatorForPreference(pad_token_id=pad_token_id)


def feedback_collator(pad_token_id: int) -> Any:
    """Makes a batch of answers with a label."""
    return DataCollatorForUnpairedPreference(pad_token_id=pad_token_id)


def check_release() -> None:
    """Raise ConfigError, if TRL is too old."""
    if release("trl") < FIRST_TRL:
        raise ConfigError(f"task=preferences needs trl>={FIRST_TRL[0]}.{FIRST_TRL[1]}; pip install -U trl")

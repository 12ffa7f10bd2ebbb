"""What people do with the names of PEFT, transformers and trl themselves, and this package's config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    AutoPeftModelForSequenceClassification,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
)
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

import fourierft

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:Unexpected keyword arguments:UserWarning",  # stock PEFT, of the record
    "ignore:`gradient_checkpointing:FutureWarning",  # transformers, of its own settings and trl's
)
IDS = torch.randint(3, 12, (4, 7), generator=torch.Generator().manual_seed(0))
TARGETS = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    fourierft.enable()
    yield
    fourierft.disable()


def config(**settings: Any) -> fourierft.FourierFTConfig:
    return fourierft.FourierFTConfig(**{"n_frequency": 40, "target_modules": TARGETS, **settings})


def adapted(folder: Path) -> PeftModel:
    """The base with an adapter that does something."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config(task_type="CAUSAL_LM"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.01)
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_the_automatic_classes_take_an_adapter_folder(tiny_llama: Path, tmp_path: Path) -> None:
    model = adapted(tiny_llama)
    model.save_pretrained(str(tmp_path))
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path)
    for auto in (AutoPeftModelForCausalLM, AutoModelForCausalLM):
        torch.testing.assert_close(logits(auto.from_pretrained(tmp_path)), logits(model), rtol=1e-5, atol=1e-5)
    speaker = pipeline("text-generation", model=str(tmp_path), device="cpu")
    (answer,) = speaker("the film", max_new_tokens=4, do_sample=False, return_tensors=True)
    asked = speaker.tokenizer("the film", return_tensors="pt").input_ids
    said = model.generate(input_ids=asked, max_new_tokens=4, do_sample=False)
    assert answer["generated_token_ids"] == said[0].tolist()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_the_trainer_resumes_under_gradient_checkpointing_and_bfloat16(
    tiny_llama: Path, tmp_path: Path, use_reentrant: bool
) -> None:
    def train(name: str, **more: Any) -> dict[str, Tensor]:
        set_seed(0)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), config(task_type="CAUSAL_LM"))
        arguments = TrainingArguments(
            output_dir=str(tmp_path / name),
            max_steps=4,
            save_steps=2,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            use_cpu=True,
            bf16=True,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": use_reentrant},
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=[{"input_ids": row, "labels": row} for row in IDS]).train(**more)
        return get_peft_model_state_dict(model)

    whole = train("whole")
    resumed = train("resumed", resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert all(value.abs().max() > 0 for value in whole.values())
    torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-7)  # a file has one scaling: folding rounds


def test_trl_trains_a_reward_that_stock_peft_reads(tiny_llama: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama, pad_token="[EOS]")
    base = AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=1, pad_token_id=2)
    rows = [{"chosen": "the film is good", "rejected": f"the film is {word}"} for word in ("bad", "dull")] * 4
    arguments = RewardConfig(
        output_dir=str(tmp_path / "run"), max_steps=2, learning_rate=1e-2, use_cpu=True, report_to="none", bf16=False
    )
    trainer = RewardTrainer(
        base,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=config(task_type="SEQ_CLS"),
    )
    trainer.train()
    trainer.model.save_pretrained(tmp_path / "adapter")
    trained = logits(trainer.model)
    fourierft.disable()
    stock = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", num_labels=1, pad_token_id=2)
    assert type(stock.base_model).__module__.startswith("peft.")
    torch.testing.assert_close(logits(stock), trained, rtol=1e-5, atol=1e-5)


def test_the_reference_that_trl_adds_is_the_adapter(tiny_llama: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model = adapted(tiny_llama)
    before = logits(model)
    rows = [{"prompt": "the film is", "chosen": "good", "rejected": "bad"}] * 2
    DPOTrainer(
        model,
        args=DPOConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", bf16=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny_llama, pad_token="[EOS]"),
    )
    model.set_adapter("ref")
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)

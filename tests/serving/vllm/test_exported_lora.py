"""What `fourierft export lora` writes, read by vLLM's own LoRA, without our plug-in, answers as in stock PEFT."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM

from fourierft.export.truncation import export_lora
from lab.bench.serving.fleet import greedy

from .conftest import TOKENS, Answers

ADAPTERS = (0, 1, 2)  # on two, seven and two kinds of layer
ENERGY = 0.9


@pytest.fixture(scope="module")
def exported(small_llama: Path, peft_answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Each adapter -> folder of the LoRA adapter of other ranks in every layer."""
    folder = tmp_path_factory.mktemp("lora")
    found = {}
    for k in ADAPTERS:
        made = export_lora(peft_answers.folder / str(k), folder / str(k), energy=ENERGY, base=str(small_llama))
        assert any(re.search(r"--max-lora-rank (8|16|32)\b", note) for note in made.notes), made.notes
        found[k] = made.output
    return found


Asked = tuple[str, list[int]]  # folder of an adapter and the tokens of a prompt


def generate(base: str, asked: list[Asked]) -> list[list[int]]:
    """Greedy answers of vLLM with LoRA as it comes."""
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    settings: dict[str, Any] = {"max_model_len": 256, "max_num_seqs": 16, "block_size": 32}
    engine = LLM(base, dtype="float32", enable_lora=True, max_loras=len(ADAPTERS), max_lora_rank=32, **settings)
    numbers = {folder: number for number, folder in enumerate(sorted({folder for folder, _ in asked}), start=1)}
    outputs = engine.generate(
        [{"prompt_token_ids": prompt} for _, prompt in asked],
        SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True),
        lora_request=[LoRARequest(folder, numbers[folder], folder) for folder, _ in asked],
        use_tqdm=False,
    )
    return [list(output.outputs[0].token_ids) for output in outputs]


def test_vllm_answers_as_stock_peft_with_the_exported_lora(
    exported: dict[int, Path], small_llama: Path, peft_answers: Answers
) -> None:
    asked: list[Asked] = []
    expected, base = [], []
    plain = AutoModelForCausalLM.from_pretrained(small_llama).eval()
    for k, folder in exported.items():
        model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small_llama), folder).eval()
        for prompt in peft_answers.prompts[peft_answers.names[k]]:
            asked.append((str(folder), prompt))
            expected.append(greedy(model, prompt, TOKENS))
            base.append(greedy(plain, prompt, TOKENS))
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # one process holds one engine
        assert other.submit(generate, str(small_llama), asked).result() == expected
    assert all(answer != without for answer, without in zip(expected, base, strict=True))

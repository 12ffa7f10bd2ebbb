"""What `fourierft export lora` writes, read by vLLM's own LoRA, without our plug-in, answers as in stock PEFT."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def engine(small_llama: Path, exported: dict[int, Path]) -> Iterator[Any]:
    """vLLM in this process with LoRA as it comes."""
    from vllm import LLM

    settings: dict[str, Any] = {"max_model_len": 256, "max_num_seqs": 16, "block_size": 32}
    yield LLM(str(small_llama), dtype="float32", enable_lora=True, max_loras=3, max_lora_rank=32, **settings)


def test_vllm_answers_as_stock_peft_with_the_exported_lora(
    engine: Any, exported: dict[int, Path], small_llama: Path, peft_answers: Answers
) -> None:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    prompts, requests, expected, base = [], [], [], []
    plain = AutoModelForCausalLM.from_pretrained(small_llama).eval()
    for k, folder in exported.items():
        model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small_llama), folder).eval()
        for prompt in peft_answers.prompts[peft_answers.names[k]]:
            prompts.append({"prompt_token_ids": prompt})
            requests.append(LoRARequest(str(k), k + 1, str(folder)))
            expected.append(greedy(model, prompt, TOKENS))
            base.append(greedy(plain, prompt, TOKENS))
    outputs = engine.generate(
        prompts,
        SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True),
        lora_request=requests,
        use_tqdm=False,
    )
    assert [list(output.outputs[0].token_ids) for output in outputs] == expected
    assert all(answer != other for answer, other in zip(expected, base, strict=True))

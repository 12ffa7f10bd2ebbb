"""Tests that need vLLM: collected where it is installed. A tiny LLaMA, adapters of stock PEFT, and its answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]

CORES = sorted(os.sched_getaffinity(0))
os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": str(CORES[0]),
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process, which starts in a third of the time
    "HF_HUB_OFFLINE": "1",
}
BASE = "__base__"
TARGETS = (
    ["q_proj", "v_proj"],
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ["down_proj", "o_proj"],
)
TOKENS = 12
WORDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of vLLM and of what it imports are not ours to mend."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def small_llama(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: Callable[..., int]) -> Path:
    """Directory of a random LLaMA, 2 layers x 64, in shapes that vLLM has kernels for, with a chat template."""
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("small_llama")
    template = "[BOS] {% for message in messages %}{{ message['content'] }} {% endfor %}"
    special = {"unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    words = [*special.values(), *(f"w{k}" for k in range(WORDS))]
    size = save_tokenizer(directory, words, WhitespaceSplit(), **special, chat_template=template)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


class Answers(NamedTuple):
    """Adapters made by stock PEFT, in a store, and what stock PEFT answers with each alone."""

    store: Path
    folder: Path
    names: list[str]
    prompts: dict[str, list[list[int]]]
    expected: dict[str, list[list[int]]]


@pytest.fixture(scope="session")
def peft_answers(small_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of 12 adapters and the base: three choices of layers, two counts, two draws."""
    import peft
    from transformers import AutoModelForCausalLM

    from fourierft.store import AdapterStore
    from lab.bench.serving.fleet import greedy

    folder = tmp_path_factory.mktemp("fleet")
    answers = Answers(folder / "fleet.db", folder, [*(f"team/{k}" for k in range(12)), BASE], {}, {})
    with AdapterStore(answers.store) as store:
        for k, name in enumerate(answers.names):
            model = AutoModelForCausalLM.from_pretrained(small_llama).eval()
            if name != BASE:
                torch.manual_seed(k)
                settings: dict[str, Any] = {"n_frequency": (40, 30)[k % 2], "random_loc_seed": 1 if k % 5 == 4 else 777}
                config = peft.FourierFTConfig(target_modules=TARGETS[k % 3], scaling=60.0, **settings)
                model = peft.get_peft_model(model, config).eval()
                model.save_pretrained(str(folder / str(k)))
                store.add(name, folder / str(k))
            answers.prompts[name] = [draw_prompt(100 * k + i, 4 + 13 * i) for i in range(3)] + [draw_prompt(0, 70)]
            answers.expected[name] = [greedy(model, prompt, TOKENS) for prompt in answers.prompts[name]]
    return answers


def draw_prompt(seed: int, length: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [1, *torch.randint(3, 3 + WORDS, (length - 1,), generator=generator).tolist()]


Generate = Callable[[list[str], list[list[int]]], list[Any]]


@pytest.fixture(scope="session")
def engine(small_llama: Path, peft_answers: Answers) -> Iterator[Any]:
    """vLLM in this process, with the plug-in and 4 slots."""
    from vllm import LLM

    os.environ["FOURIERFT_STORE"] = str(peft_answers.store)
    yield LLM(
        str(small_llama),
        dtype="float32",
        enable_lora=True,
        max_loras=4,
        max_lora_rank=1,
        max_model_len=256,
        max_num_seqs=16,
        block_size=32,
        worker_extension_cls="fourierft.serving.worker.FleetWorker",
    )
    del os.environ["FOURIERFT_STORE"]


@pytest.fixture(scope="session")
def generate(engine: Any, peft_answers: Answers) -> Generate:
    """Greedy answers to prompts, each with the latest version of an adapter: vLLM's outputs."""
    from vllm import SamplingParams

    from fourierft.serving import vllm_internals
    from fourierft.store import AdapterStore

    store = AdapterStore(peft_answers.store, create=False)

    def generate(names: list[str], prompts: list[list[int]]) -> list[Any]:
        requests = [
            None if n == BASE else vllm_internals.make_request(*swap(store._tables.latest(n), n)) for n in names
        ]
        return engine.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True),
            lora_request=requests,
            use_tqdm=False,
        )

    return generate


def swap(found: tuple[int, int] | None, name: str) -> tuple[int, str, int]:
    assert found is not None
    return found[0], name, found[1]

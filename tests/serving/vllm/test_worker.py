from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from fourierft.serving import worker
from fourierft.store import AdapterStore

from .conftest import BASE, CORES, TOKENS, Answers, Generate


def tokens(outputs: list[Any]) -> list[list[int]]:
    return [list(output.outputs[0].token_ids) for output in outputs]


def rows(answers: Answers) -> tuple[list[str], list[list[int]], list[list[int]]]:
    """Every prompt of every adapter, those of one adapter far from each other: names, prompts, PEFT's answers."""
    every = [(name, i) for i in range(4) for name in answers.names]
    return (
        [name for name, _ in every],
        [answers.prompts[name][i] for name, i in every],
        [answers.expected[name][i] for name, i in every],
    )


def test_every_answer_of_a_mixed_batch_is_that_of_stock_peft_alone(generate: Generate, peft_answers: Answers) -> None:
    names, prompts, expected = rows(peft_answers)
    assert tokens(generate(names, prompts)) == expected
    differ = sum(a != peft_answers.expected[BASE][3] for a in (peft_answers.expected[n][3] for n in names[:12]))
    assert differ == 12  # from the base, for one prompt


def test_slots_are_fewer_than_adapters_and_have_no_buffers_of_rank_times_width(
    engine: Any, generate: Generate, peft_answers: Answers
) -> None:
    names, prompts, _ = rows(peft_answers)
    before = engine.collective_rpc("fleet_counts")[0]
    generate(names[:12], prompts[:12])
    counts = engine.collective_rpc("fleet_counts")[0]
    assert counts["resident"] == counts["slots"] == 4
    assert counts["evictions"] - before["evictions"] >= 8
    draws = 2 * 2 * 7  # draws, layers, linear layers in each
    assert counts["bytes"] <= draws * 5 * 40 * 4


def test_prefixes_in_the_cache_are_those_of_an_adapter(generate: Generate, peft_answers: Answers) -> None:
    names, shared = peft_answers.names, peft_answers.prompts[BASE][3]
    for _ in range(2):
        outputs = generate(names, [shared] * len(names))
        assert tokens(outputs) == [peft_answers.expected[name][3] for name in names]
    assert all(output.num_cached_tokens == 64 for output in outputs)  # two blocks of 32


def test_a_new_version_answers_at_once_and_prefixes_of_the_old_one_are_not_used(
    generate: Generate, peft_answers: Answers
) -> None:
    prompt, expected = peft_answers.prompts[BASE][3], peft_answers.expected
    with AdapterStore(peft_answers.store) as store:
        assert store.add("changing", peft_answers.folder / "0") == 1
        assert tokens(generate(["changing"], [prompt])) == [expected["team/0"][3]]
        assert store.add("changing", peft_answers.folder / "1") == 2
        assert tokens(generate(["changing"], [prompt])) == [expected["team/1"][3]]


def test_what_cannot_be_served_is_told_in_a_sentence_and_the_engine_goes_on(
    engine: Any, generate: Generate, peft_answers: Answers
) -> None:
    with AdapterStore(peft_answers.store) as store:
        plain = store.get("team/0")
        store.put("headed", plain.layout, plain.values, {"lm_head.weight": torch.zeros(2, 2)})
        found: Any = store._tables.latest("headed")
        key, version = found
        assert "replaces lm_head.weight" in engine.collective_rpc("fleet_hold", args=(key, "headed", version))[0]
        assert "no version 7" in engine.collective_rpc("fleet_hold", args=(99, "team/0", 7))[0]
        damage = "UPDATE fourierft_adapters SET coefficients = zeroblob(640) WHERE id = :id"
        key = store.put("broken", plain.layout, plain.values) and store._tables.latest("broken")[0]
        with store._tables.writing() as execute:
            execute(damage, {"id": key})
        assert "is damaged" in engine.collective_rpc("fleet_hold", args=(key, "broken", 1))[0]
        store.remove("broken")
        store.remove("headed")
    assert tokens(generate(["team/0"], [peft_answers.prompts["team/0"][0]])) == [peft_answers.expected["team/0"][0]]


def test_a_held_adapter_is_served_though_it_is_gone_from_the_store(
    engine: Any, generate: Generate, peft_answers: Answers
) -> None:
    from vllm import SamplingParams

    from fourierft.serving import vllm_internals

    with AdapterStore(peft_answers.store) as store:
        store.add("leaving", peft_answers.folder / "2")
        found: Any = store._tables.latest("leaving")
        key, version = found
        assert engine.collective_rpc("fleet_hold", args=(key, "leaving", version)) == [None]
        store.remove("leaving")
    outputs = engine.generate(
        {"prompt_token_ids": peft_answers.prompts["team/2"][0]},
        SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True),
        lora_request=vllm_internals.make_request(key, "leaving", version),
        use_tqdm=False,
    )
    assert tokens(outputs) == [peft_answers.expected["team/2"][0]]
    engine.collective_rpc("fleet_release", args=(key,))


def test_the_plug_in_leaves_vllm_alone_where_no_store_is_named(monkeypatch: Any) -> None:
    monkeypatch.delenv(worker.STORE, raising=False)
    monkeypatch.setattr(worker.vllm_internals, "install", lambda manager: 1 / 0)
    worker.register()


def test_two_processes_that_share_the_model_give_the_answers_of_one(
    small_llama: Path, peft_answers: Answers, tmp_path: Path
) -> None:
    """Tensor parallel: q, gate and up by columns, k and v repeated (one head for two processes), o and down by rows."""
    names, prompts, expected = rows(peft_answers)
    task = {"model": str(small_llama), "names": names[:26], "prompts": prompts[:26], "tokens": TOKENS}
    (tmp_path / "task.json").write_text(json.dumps(task))
    environment = {
        **os.environ,
        "FOURIERFT_STORE": str(peft_answers.store),
        "VLLM_CPU_OMP_THREADS_BIND": f"{CORES[0]}|{CORES[-1]}",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    }
    script = Path(__file__).with_name("two_processes.py")
    subprocess.run([sys.executable, str(script), str(tmp_path)], env=environment, check=True)
    assert json.loads((tmp_path / "answers.json").read_text()) == expected[:26]

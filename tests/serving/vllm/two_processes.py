"""Answers prompts with vLLM in two processes that share the model: `two_processes.py FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Read FOLDER/task.json, write FOLDER/answers.json."""
    from vllm import LLM, SamplingParams

    from fourierft.serving import vllm_internals
    from fourierft.store import AdapterStore

    task = json.loads((folder / "task.json").read_text())
    store = AdapterStore(os.environ["FOURIERFT_STORE"], create=False)
    engine = LLM(
        task["model"],
        dtype="float32",
        enable_lora=True,
        max_loras=4,
        max_lora_rank=1,
        max_model_len=256,
        max_num_seqs=16,
        tensor_parallel_size=2,
    )
    requests = []
    for name in task["names"]:
        found = store._tables.latest(name)
        requests.append(vllm_internals.make_request(found[0], name, found[1]) if found else None)
    outputs = engine.generate(
        [{"prompt_token_ids": prompt} for prompt in task["prompts"]],
        SamplingParams(max_tokens=task["tokens"], temperature=0, ignore_eos=True),
        lora_request=requests,
        use_tqdm=False,
    )
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

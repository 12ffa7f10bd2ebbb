"""The servers that pages start, and what they send them: each command as the page has it, but for the port."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from fourierft.store import AdapterStore
from lab.bench.serving.server import Server, running
from tests.pages.blocks import ROOT, commands_of, read_blocks

from .conftest import Answers

NAMES = ("ann", "bob", "customer-1", "noun", "verb", "adjective")
SMALL = "--vllm=--dtype float32 --max-model-len 256 --max-num-seqs 16 --block-size 32"


@pytest.fixture(scope="module")
def folder(small_llama: Path, peft_answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pages run: what their trainings have made."""
    folder = tmp_path_factory.mktemp("pages")
    snapshot = folder / "hub/models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(snapshot.name)
    (folder / "serve-demo").mkdir()
    for link in (snapshot, folder / "MODEL", folder / "serve-demo/base"):
        link.symlink_to(small_llama)
    for name in ("fleet.db", "serve-demo/fleet.db"):
        with AdapterStore(peft_answers.store) as adapters, AdapterStore(folder / name) as store:
            for number, each in enumerate(NAMES):
                adapter = adapters.get(f"team/{number}")
                store.put(each, adapter.layout, adapter.values)
    return folder


def send(server: Server, words: list[str]) -> dict[str, object]:
    """What a server answers to a curl command."""
    address = words[1].replace("http://127.0.0.1:8000", server.address)
    headers = dict([words[words.index("-H") + 1].split(": ")])
    request = urllib.request.Request(address, words[words.index("-d") + 1].encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as response:
        answer: dict[str, object] = json.loads(response.read())
        return answer


@pytest.mark.parametrize("page", ["docs/serving.md", "docs/tutorials/serve.md"])
def test_servers_of_a_page_answer_what_it_sends(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    found = [words for block in read_blocks(ROOT / page) if block.language == "sh" for words in commands_of(block)]
    servers = [words[1:] for words in found if words[0].endswith("/fourierft") and words[1] == "serve"]
    asked = [words for words in found if words[0] == "curl"]
    program = [sys.executable, "-m", "fourierft.cli.main"]
    for words in servers:
        if "--ask" in words:
            done = subprocess.run([*program, *words, SMALL], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            served = words[1] if "/" in words[1] and not Path(words[1]).is_dir() else Path(words[1]).name
            names = [served if name == "__base__" else name for name in words[words.index("--of") + 1 :]]
            assert done.stdout.split()[: len(names)] == names
        else:
            with running([*program, *words, SMALL, "--port", "{port}"], folder / "log") as server:
                answers = [send(server, request) for request in asked]
            assert [answer["model"] for answer in answers] == [json.loads(words[-1])["model"] for words in asked]
    assert len(servers) == 2
    assert len(asked) == 1

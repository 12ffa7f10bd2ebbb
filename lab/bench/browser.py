"""The folder of `fourierft export web` in Chromium: seconds to the first answer, milliseconds a sentence, and how far
its numbers are from PyTorch's.

.venv/bin/python -m lab bench browser web-demo fleet-demo/fleet.db
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from fourierft.tables import align_columns, format_bytes

SENTENCES = (
    "A quietly devastating film that stayed with me for days.",
    "It works, mostly.",
    "Not great, but it was cheap and it came on time.",
    "The committee wasted another year.",
    "Naïve, déjà vu… but the 2nd half (mostly) redeems it!",
)
PATIENCE = 600_000  # milliseconds for an answer
REPEATS = 5


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that logs nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files, as `python -m http.server` is one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_ready(page: Any) -> float:
    """Seconds from the page's start to its first answers.

    Raises: RuntimeError, with what the page says, if it fails.
    """
    page.wait_for_function(
        "document.body.dataset.ready || document.querySelector('#problem').textContent", timeout=PATIENCE
    )
    problem = page.locator("#problem").inner_text()
    if problem:
        raise RuntimeError(problem)
    return float(page.evaluate("Number(document.body.dataset.ready)")) / 1000


def ask(page: Any, sentence: str) -> tuple[dict[str, list[float]], float]:
    """The logits of every adapter for a sentence, and the milliseconds of the call."""
    page.evaluate("delete document.querySelector('#answers').dataset.text")
    page.fill("#text", sentence)
    page.wait_for_function(
        "text => document.querySelector('#answers').dataset.text === text", arg=sentence, timeout=PATIENCE
    )
    told = page.eval_on_selector_all(
        "#answers li", "all => all.map(e => [e.dataset.name, JSON.parse(e.dataset.logits)])"
    )
    return dict(told), float(page.evaluate("Number(document.querySelector('#answers').dataset.spent)"))


def true_logits(sources: Sequence[str], sentences: Sequence[str]) -> dict[str, Any]:
    """What each adapter gives in PyTorch, [sentences, classes] each."""
    import torch
    from transformers import AutoTokenizer

    from fourierft.export.numbers import open_adapters
    from fourierft.export.subject import load_subject

    found = {}
    with open_adapters(sources) as adapters, torch.inference_mode():
        for name, checkpoint in adapters.items():
            subject = load_subject(checkpoint.path)
            tokenizer = AutoTokenizer.from_pretrained(subject.place.name)
            batches = [tokenizer(sentence, padding=False, return_tensors="pt") for sentence in sentences]
            found[name] = torch.cat([subject.model(**batch).logits for batch in batches])
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="that `fourierft export web` made")
    parser.add_argument("adapters", nargs="+", help="that it was made of")
    parser.add_argument("--picture", type=Path, help="PNG of the page to write")


def run(arguments: argparse.Namespace) -> int:
    """Measure, compare, print."""
    import torch
    from playwright.sync_api import sync_playwright

    expected = true_logits(arguments.adapters, SENTENCES)
    with sync_playwright() as playwright, served(arguments.folder) as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 960, "height": 720})
        page.goto(address)
        first = wait_ready(page)
        answers = [ask(page, sentence) for _ in range(REPEATS) for sentence in SENTENCES]
        if arguments.picture:
            page.screenshot(path=arguments.picture, full_page=True)
        version = browser.version
        browser.close()
    found = {name: torch.tensor([own[name] for own, _ in answers[: len(SENTENCES)]]) for name in expected}
    far = max(float((found[name] - own).abs().max()) for name, own in expected.items())
    model = arguments.folder / "model"
    print(
        align_columns(
            [
                ("the graph", format_bytes((model / "model.onnx").stat().st_size)),
                ("an adapter", format_bytes(max(path.stat().st_size for path in (model / "adapters").iterdir()))),
                (
                    "the runtime",
                    format_bytes(sum(path.stat().st_size for path in (arguments.folder / "ort").iterdir())),
                ),
                ("the page", format_bytes(sum(path.stat().st_size for path in arguments.folder.glob("*.*")))),
                ("first answers", f"{first:.1f} s"),
                (f"a sentence, {len(expected)} adapters", f"{median(spent for _, spent in answers):.0f} ms"),
                ("largest difference of logits from PyTorch", f"{far:.1e}"),
                ("browser", f"Chromium {version}"),
            ]
        )
    )
    print(
        json.dumps({"first_answers_s": first, "sentence_ms": median(spent for _, spent in answers), "difference": far})
    )
    return 0

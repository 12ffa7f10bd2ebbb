"""The picture of the server's page in docs/serving.md: a running server, asked on its page in Chromium.

.venv-vllm/bin/fourierft serve serve-demo/base --store serve-demo/fleet.db     # of `make serve-demo`; then, beside it,
.venv/bin/python -m lab bench picture --adapters noun verb adjective --question cool
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.folders import DOCS

IMAGE = DOCS / "img" / "serving.png"
WIDTH, HEIGHT = 960, 600
PATIENCE = 120_000  # milliseconds for an answer


def shoot(page: Any, adapters: Sequence[str], question: str, image: Path) -> None:
    """Ask adapters and the base on the page, and take its picture when all have answered.

    Args:
        page: of playwright, where the server's is open.
        adapters: to ask.
        question: for all of them.
        image: PNG to write.
    """
    for name in adapters[:-1]:
        page.fill("#adapter", name)
        page.click("#add")
    page.fill("#adapter", adapters[-1])
    page.fill("#prompt", question)
    page.click("#ask button[type=submit]")
    page.wait_for_selector("#answers[data-done]", timeout=PATIENCE)
    page.wait_for_function(
        "names => names.every(name => document.querySelector('#recent').textContent.includes(name))",
        arg=list(adapters),
        timeout=PATIENCE,
    )
    page.screenshot(path=image, full_page=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="http://127.0.0.1:8000", help="of the server (default: %(default)s)")
    parser.add_argument("--adapters", nargs="+", required=True, metavar="NAME", help="to ask, side by side")
    parser.add_argument("--question", required=True, help="for them and the base")
    parser.add_argument("--output", type=Path, default=IMAGE, help="PNG to write (default: docs/img/serving.png)")


def run(arguments: argparse.Namespace) -> int:
    """Open the page, ask, take the picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(arguments.address)
        shoot(page, arguments.adapters, arguments.question, arguments.output)
        browser.close()
    print(arguments.output)
    return 0

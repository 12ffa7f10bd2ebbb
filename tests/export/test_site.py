"""The folder for a browser, in Chromium without a window: its answers are stock PEFT's, nothing else is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from playwright.sync_api import Browser, Page, expect, sync_playwright
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, BertTokenizer

from fourierft.cli.main import main
from lab.bench.browser import PATIENCE, ask, served, wait_ready

from .making import make_adapter

expect.set_options(timeout=PATIENCE)
SENTENCES = ("a good film", "a good film, " * 9, "Quite DULL, but fine…", "[SEP] é ünknown 電影", "")
LONGEST = 12  # tokens that the base takes
NAMES = ("one", "two & three")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "good",
        "film",
        "quite",
        "dull",
        "but",
        "fine",
        ",",
        "e",
    ]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    BertModel(
        BertConfig(**sizes, intermediate_size=32, max_position_embeddings=LONGEST, initializer_range=0.3)
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    made = [make_adapter(base, folder / name, seed) for seed, name in enumerate(NAMES)]
    (made[1] / "fourierft.json").write_text(json.dumps({"format": 1, "labels": ["bad", "so-so", "good"]}))
    return made


@pytest.fixture(scope="module")
def folder(base: Path, adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "web"
    assert main(["export", "web", *map(str, adapters), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """The page, ready; whatever goes wrong in its scripts, or is asked for from elsewhere, fails the tests."""
    faults: list[object] = []
    with served(folder) as address:
        page = browser.new_page(viewport={"width": 360, "height": 640})
        page.on("pageerror", lambda fault: faults.append(fault))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else faults.append(asked.url),
        )
        page.goto(address)
        wait_ready(page)
        yield page
        page.close()
    assert faults == []


def test_all_answers_are_those_of_stock_peft(page: Page, base: Path, adapters: list[Path]) -> None:
    tokenizer = BertTokenizer.from_pretrained(base)
    for sentence in SENTENCES:
        found, _ = ask(page, sentence)
        assert sorted(found) == sorted(NAMES)
        batch = tokenizer(sentence, truncation=True, max_length=LONGEST, return_tensors="pt")
        for adapter in adapters:
            model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
            with torch.inference_mode():
                expected = peft.PeftModel.from_pretrained(model, adapter).eval()(**batch).logits[0]
            torch.testing.assert_close(torch.tensor(found[adapter.name]), expected, rtol=1e-4, atol=1e-5)


def test_a_switch_loads_nothing_and_shows_the_words_of_the_adapter(page: Page) -> None:
    logits, _ = ask(page, "a good film")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.select_option("#adapter", label="two & three")
    expect(page.locator("#time")).to_contain_text("two & three, in")
    own = torch.tensor(logits["two & three"])
    expect(page.locator("#answer")).to_have_text(["bad", "so-so", "good"][int(own.argmax())])
    expect(page.locator("#sure")).to_have_text(f"{100 * own.softmax(0).max():.0f}%")
    page.select_option("#adapter", label="one")
    expect(page.locator("#answer")).to_have_text(f"class {int(torch.tensor(logits['one']).argmax())}")
    assert asked == []


def test_the_page_fits_a_phone_and_has_a_dark_form(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shades = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert shades == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


def test_what_is_not_there_is_told_on_the_page(browser: Browser, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "web")
    (tmp_path / "web" / "model" / "adapters" / "one.safetensors").unlink()
    with served(tmp_path / "web") as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#problem")).to_contain_text("model/adapters/one.safetensors is not there (404)")
        page.close()


def test_a_base_with_another_tokenizer_is_refused(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter(tiny_bert, tmp_path / "adapter", 0)
    assert main(["export", "web", str(adapter), str(tmp_path / "web")]) == 2
    assert "the page needs BERT's tokenizer, but this base has another" in capsys.readouterr().err
    assert not (tmp_path / "web").exists()

"""The tokenizer of the page, in Chromium without a window, against transformers' own."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from transformers import BertTokenizer

from fourierft.export.site import PAGE
from lab.bench.browser import served

WORDS = (
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "film",
        "un",
        "##believ",
        "##able",
        "good",
        "!",
        "...",
        ".",
        "'",
    ),
    *(
        "don",
        "t",
        "cafe",
        "naive",
        "電",
        "影",
        "ss",
        "straße",
        "σ",
        "##σ",
        "ος",
        "οσ",
        "i",
        "##n",
        "istanbul",
        "i̇",
        "2",
        "##0",
    ),
    *(
        "¡",
        "«",
        "—",
        "$",
        "+",
        "~",
        "`",
        "^",
        "|",
        "a",
        "##b",
        "##c",
        "ﬁ",
        "k",
        "한",
        "하",
        "##국",
        "ᄒ",
        "##ᅡ",
        "##ᆫ",
        "é",
    ),
)
TEXTS = (
    "The FILM, unbelievable!",
    "Don't... café naïve CAFÉ",
    "電影good film電",
    "straße STRASSE ẞ",
    "ΟΣ οσ ος Σ ΣΣ",
    "İstanbul ISTANBUL",
    "20 2020 202",
    "¡film! «good» — $+~`^|",
    "a\tb\nc\r\na\u00a0b\u2003c\u3000a\u2028b",
    "a\u200bb a\ufeffb a\u00adb a\u0000b a\ufffdb a\u0007b",
    "[SEP] good [MASK]film[UNK] [sep] [CLS",
    "x" * 101 + " film " + "ab" * 50,
    "한국 한 하",
    "e\u0301 é a\u0300\u0301\u0302",
    "👍 good 👩‍👩‍👧 film\U0001f3fd 😀",
    "ﬁlm ﬁ K k Å",
    "",
    "   ",
    "the " * 40,
    "\ue000film \U000e0001good \u0378x",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, BertTokenizer]]:
    folder = tmp_path_factory.mktemp("page")
    shutil.copyfile(PAGE / "tokenizer.js", folder / "tokenizer.js")
    (folder / "index.html").write_text("<!doctype html><link rel=icon href='data:,'>")
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    with sync_playwright() as playwright, served(folder) as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.goto(address)
        yield page, tokenizer
        browser.close()


def tokenize(page: Page, text: str, limit: int = 32) -> list[int]:
    return page.evaluate(
        """async ([text, limit]) => {
             const {makeTokenizer} = await import("./tokenizer.js");
             return makeTokenizer(await (await fetch("tokenizer.json")).json(), limit)(text);
           }""",
        [text, limit],
    )


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts_have_the_tokens_of_transformers(page: tuple[Page, BertTokenizer], text: str) -> None:
    expected = page[1](text, truncation=True, max_length=32).input_ids
    assert tokenize(page[0], text) == expected


def test_every_letter_of_the_basic_plane_has_the_tokens_of_transformers(page: tuple[Page, BertTokenizer]) -> None:
    """Each between two words, so that it shows whether it is a space, a sign, a letter, or nothing.

    Those are left out that Unicode took in lately: the browser knows them, the tokenizers library does not.
    """
    old = unicodedata.ucd_3_2_0.category
    points = [
        point for point in range(1, 0xFFFF) if old(chr(point)) == unicodedata.category(chr(point)) not in ("Cs", "Cn")
    ]
    text = " good ".join(f"a{chr(point)}b" for point in points)
    good = WORDS.index("good")
    ours, theirs = (split_at(tokens, good) for tokens in (tokenize(page[0], text, 10**6), page[1](text).input_ids))
    assert [hex(point) for point, own, true in zip(points, ours, theirs, strict=True) if own != true] == []


def split_at(tokens: list[int], mark: int) -> list[list[int]]:
    """The tokens between marks."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def test_a_vocabulary_without_folding_keeps_case_and_accents(tmp_path: Path, page: tuple[Page, BertTokenizer]) -> None:
    content = json.loads(page[1].backend_tokenizer.to_str())
    content["normalizer"] |= {"lowercase": False, "strip_accents": None}
    found = page[0].evaluate(
        """async ([content, text]) => (await import("./tokenizer.js")).makeTokenizer(content, 32)(text)""",
        [content, "Film film é e\u0301"],
    )
    from tokenizers import Tokenizer

    assert found == Tokenizer.from_str(json.dumps(content)).encode("Film film é e\u0301").ids

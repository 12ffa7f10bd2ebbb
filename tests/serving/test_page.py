"""The page, in Chromium without a window: what it asks goes to the gate, in this process."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from starlette.testclient import TestClient

from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore
from lab.bench.serving.picture import shoot

from .conftest import CHROMIUM, TENANTS, Serve

ADDRESS = "http://fleet.test/"
Open = Callable[..., Page]
PATIENCE = 120_000  # milliseconds: nothing waits for ever, and a machine may be busy
expect.set_options(timeout=PATIENCE)
Scheme = Literal["light", "dark"]
# Contrast of an element's text with what is behind it, as WCAG 2 counts it: 4.5 is enough to read.
CONTRAST = """(selector) => {
  const light = (colour) => colour.map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const element = document.querySelector(selector);
  let behind = element;
  while (read(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const both = [read(getComputedStyle(element).color), read(getComputedStyle(behind).backgroundColor)];
  const [high, low] = both.map((colour) => light(colour.slice(0, 3))).sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens the page of a server; whatever goes wrong in its script fails the test."""
    context, faults = browser.new_context(), []
    context.set_default_timeout(PATIENCE)

    def open_page(client: TestClient, waiting: list[Route] | None = None) -> Page:
        """Args: waiting: gets the first question for the state, which is left unanswered."""

        def answer(route: Route) -> None:
            if waiting == [] and route.request.url.endswith("/fleet/status"):
                waiting.append(route)
            else:
                pass_on(client, route)

        page = context.new_page()
        page.on("pageerror", lambda fault: faults.append(fault))
        page.route("**/*", answer)
        page.goto(ADDRESS)
        return page

    yield open_page
    context.close()
    assert faults == []


def pass_on(client: TestClient, route: Route) -> None:
    asked = route.request
    headers = {name: value for name, value in asked.headers.items() if name in ("authorization", "content-type")}
    found = client.request(
        asked.method, asked.url.removeprefix(ADDRESS[:-1]), content=asked.post_data_buffer, headers=headers
    )
    route.fulfill(status=found.status_code, headers=dict(found.headers), body=found.content)


def number(page: Page, label: str) -> str:
    return page.locator("#numbers li", has_text=label).locator("b").inner_text()


def test_the_page_says_what_is_served(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    expect(page.locator("#base")).to_have_text("base")
    shown = {label: number(page, label) for label in ("adapters", "resident", "slots", "loads", "evictions")}
    assert shown == {"adapters": "5", "resident": "3", "slots": "4", "loads": "7", "evictions": "2"}
    expect(page.locator("#adapter")).to_have_value("acme/one")
    assert page.locator("#names option").count() == 5


def answer(page: Page, model: str) -> Locator:
    return page.locator(f".answer[data-model='{model}']")


def ask(page: Page) -> None:
    page.click("#ask button[type=submit]")


def test_an_adapter_and_the_base_answer_side_by_side(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    page.fill("#adapter", "shared")
    page.fill("#prompt", "Hello?")
    ask(page)
    expect(answer(page, "shared").locator("pre")).to_have_text("hello from shared")
    expect(answer(page, "base").locator("pre")).to_have_text("hello from base")
    expect(answer(page, "base").locator("h2")).to_have_text("base (the base)")
    expect(answer(page, "shared").locator("p")).to_contain_text(re.compile(r"^first token after \d+\.\d\d s"))
    expect(page.locator("#recent")).to_contain_text("shared (version 1)")


def test_the_base_is_asked_too_by_who_asks_before_the_page_knows_it(open_page: Open, serve: Serve) -> None:
    client = serve(Tenants())
    waiting: list[Route] = []
    page = open_page(client, waiting)
    page.fill("#adapter", "shared")
    ask(page)
    while not waiting:
        page.wait_for_timeout(10)
    pass_on(client, waiting[0])
    expect(answer(page, "shared").locator("pre")).to_have_text("hello from shared")
    expect(answer(page, "base").locator("pre")).to_have_text("hello from base")


def test_an_adapter_that_is_not_there_is_told_where_its_answer_would_be(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    page.fill("#adapter", "nobody")
    ask(page)
    expect(answer(page, "nobody").locator("pre")).to_have_text("The model `nobody` does not exist.")
    expect(answer(page, "base").locator("pre")).to_have_text("hello from base")


def test_several_adapters_answer_one_prompt_side_by_side(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    for name in ("acme/one", "acme/two", "umbrella/secret"):
        page.fill("#adapter", name)
        page.click("#add")
    page.locator("#chosen button", has_text="umbrella/secret").click()
    page.fill("#adapter", "shared")
    ask(page)
    names = ["acme/one", "acme/two", "shared", "base"]
    for name in names:
        expect(answer(page, name).locator("pre")).to_have_text(f"hello from {name}")
    assert page.locator(".answer").evaluate_all("them => them.map(one => one.dataset.model)") == names


def test_tokens_a_second_are_those_after_the_first(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    assert page.evaluate("[speed(8, 2), speed(1, 2), speed(8, 0)]") == [", then 3.5 tokens a second", "", ""]


def test_names_are_found_among_thousands_by_how_they_begin(open_page: Open, serve: Serve, store: AdapterStore) -> None:
    plain = store.get("shared")
    store.add_many(plain.layout, ((f"customer/{number:04}", plain.values) for number in range(1000)))
    page = open_page(serve(Tenants()))
    expect(page.locator("#names option")).to_have_count(50)
    page.locator("#adapter").fill("customer/099")
    expect(page.locator("#names option")).to_have_count(10)
    assert page.locator("#names option").first.get_attribute("value") == "customer/0990"


def test_the_page_fits_and_can_be_read_on_phones_and_in_the_dark(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    page.fill("#adapter", "shared")
    ask(page)
    expect(answer(page, "shared").locator("p")).to_contain_text("first token")
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for width, scheme in itertools.product((390, 1280), schemes):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for element in ("body", ".quiet", ".answer pre", "#ask button[type=submit]"):
            assert page.evaluate(CONTRAST, element) >= 4.5, (width, scheme, element)


def test_a_tenant_gives_its_key_and_sees_its_own_adapters(open_page: Open, serve: Serve) -> None:
    digests = {hashlib.sha256(key.encode()).hexdigest(): tenant for key, tenant in TENANTS.items()}
    page = open_page(serve(Tenants(digests)))
    expect(page.locator("#problem")).to_contain_text("This server needs a key")
    assert page.locator("#numbers li").count() == 0
    page.fill("#key", "acme")
    page.locator("#key").blur()
    expect(page.locator("#problem")).to_have_text("")
    expect(page.locator("#adapter")).to_have_value("acme/one")
    assert number(page, "adapters") == "3"
    assert "umbrella" not in page.content()


def test_a_name_is_text_whatever_it_looks_like(open_page: Open, serve: Serve, store: AdapterStore) -> None:
    plain = store.get("shared")
    store.put("<img src=x onerror=alert(1)>", plain.layout, plain.values)
    page = open_page(serve(Tenants()))
    page.fill("#adapter", "<img src=x onerror=alert(1)>")
    ask(page)
    expect(page.locator(".answer pre").first).to_have_text("hello from <img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0


def test_the_picture_of_the_docs_is_taken_when_all_have_answered(open_page: Open, serve: Serve, tmp_path: Path) -> None:
    page = open_page(serve(Tenants()))
    shoot(page, ["acme/one", "shared"], "Hello?", tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    for name in ("acme/one", "shared", "base"):
        assert answer(page, name).locator("pre").inner_text() == f"hello from {name}"

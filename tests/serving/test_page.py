"""The page, in Chromium without a window: what it asks goes to the gate, in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from starlette.testclient import TestClient

from fourierft.serving.tenants import Tenants
from fourierft.store import AdapterStore
from lab.bench.serving.picture import shoot

from .conftest import CHROMIUM, TENANTS, Serve

ADDRESS = "http://fleet.test/"
Open = Callable[[TestClient], Page]


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

    def open_page(client: TestClient) -> Page:
        def answer(route: Route) -> None:
            asked = route.request
            headers = {
                name: value for name, value in asked.headers.items() if name in ("authorization", "content-type")
            }
            found = client.request(
                asked.method, asked.url.removeprefix(ADDRESS[:-1]), content=asked.post_data_buffer, headers=headers
            )
            route.fulfill(status=found.status_code, headers=dict(found.headers), body=found.content)

        page = context.new_page()
        page.on("pageerror", lambda fault: faults.append(fault))
        page.route("**/*", answer)
        page.goto(ADDRESS)
        return page

    yield open_page
    context.close()
    assert faults == []


def number(page: Page, label: str) -> str:
    return page.locator("#numbers li", has_text=label).locator("b").inner_text()


def test_the_page_says_what_is_served(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    expect(page.locator("#base")).to_have_text("base")
    shown = {label: number(page, label) for label in ("adapters", "resident", "slots", "loads", "evictions")}
    assert shown == {"adapters": "5", "resident": "3", "slots": "4", "loads": "7", "evictions": "2"}
    expect(page.locator("#adapter")).to_have_value("acme/one")
    assert page.locator("#names option").count() == 5


def test_an_adapter_and_the_base_answer_side_by_side(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    page.fill("#adapter", "shared")
    page.fill("#prompt", "Hello?")
    page.click("button")
    expect(page.locator("#adapted")).to_have_text("hello from shared")
    expect(page.locator("#plain")).to_have_text("hello from base")
    expect(page.locator("#left")).to_have_text("shared")
    expect(page.locator("#recent")).to_contain_text("shared (version 1)")


def test_an_adapter_that_is_not_there_is_told_where_its_answer_would_be(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(Tenants()))
    page.fill("#adapter", "nobody")
    page.click("button")
    expect(page.locator("#adapted")).to_have_text("The model `nobody` does not exist.")
    expect(page.locator("#plain")).to_have_text("hello from base")


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
    page.click("button")
    expect(page.locator("#adapted")).to_have_text("hello from <img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0


def test_the_picture_of_the_docs_is_taken_when_both_have_answered(
    open_page: Open, serve: Serve, tmp_path: Path
) -> None:
    page = open_page(serve(Tenants()))
    shoot(page, "shared", "Hello?", tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert page.locator("#adapted").inner_text() == "hello from shared"
    assert page.locator("#plain").inner_text() == "hello from base"

"""Tables of docs/serving.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.errors import DataError
from lab.bench.serving.command import PAGE
from lab.bench.serving.exact import case_name as exact_name
from lab.bench.serving.exact import shared_name
from lab.bench.serving.limits import burst_name
from lab.bench.serving.page import tables, write_page
from lab.bench.serving.record import Record, one
from lab.bench.serving.throughput import BASE
from lab.bench.serving.throughput import case_name as rate_name
from lab.ledger import read_folder


def test_every_kind_of_case_has_its_table(tmp_path: Path) -> None:
    record = Record(tmp_path, 2)
    record.add(exact_name("zipf", 1000, 64), {"right": one(998), "of": one(1000), "seconds": one(60, "s")})
    record.add(shared_name(1000, 64), {"right": one(128), "of": one(128), "tokens found in the cache": one(10240)})
    rates = {BASE: ([100.0], "tokens/s"), "distinct": ([92.0], "tokens/s"), "tables": one(2.4e8, "B")}
    record.add(rate_name(1000, 64), rates, BASE)
    record.add(burst_name(10_000), {"answered": one(1500), "refused with 429": one(8500), "seconds": one(61.6, "s")})
    text = tables(read_folder(tmp_path))
    assert "| 1,000 adapters, 64 slots, zipf | 998 of 1,000 |  |" in text
    assert "one prompt through 64 adapters, twice | 128 of 128 | 10,240 |" in text
    assert "| tokens a second | the base alone | distinct | tables |" in text
    assert "| 1,000 adapters, 64 slots | 100 | 92 (0.92) | 240 MB |" in text
    assert "| 10,000 requests at once | answered 1,500, refused with 429 8,500, seconds 61.6 s |" in text


def test_the_newest_figures_fill_the_marked_place_alone(tmp_path: Path) -> None:
    for value in (1, 2):
        Record(tmp_path, 2).add(burst_name(10), {"answered": one(value)})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin serving -->\nold\n<!-- end serving -->\nafter\n")
    write_page(read_folder(tmp_path), page)
    text = page.read_text()
    assert text.startswith("before\n<!-- begin serving -->\n")
    assert text.endswith("| 10 requests at once | answered 2 |\n<!-- end serving -->\nafter\n")
    assert "old" not in text
    page.write_text("nothing marked")
    with pytest.raises(DataError, match="marks no place"):
        write_page(read_folder(tmp_path), page)


def test_the_page_of_the_docs_has_a_place(tmp_path: Path) -> None:
    copy = tmp_path / "serving.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    write_page([], copy)
    assert "Not measured yet" in copy.read_text(encoding="utf-8")

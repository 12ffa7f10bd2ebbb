"""Counted memory of the slots."""

from __future__ import annotations

from pathlib import Path

from lab.bench.serving.limits import memory
from lab.bench.serving.record import Record
from lab.ledger import read_folder


def test_ten_thousand_slots_are_their_coefficients_and_nothing_more(tmp_path: Path) -> None:
    memory(Record(tmp_path, 2))
    sizes = {row["contender"]: row["median"] for row in read_folder(tmp_path)}
    assert sizes["numbers in a slot"] == 64 * 1000
    assert 1 <= sizes["float32"] / (10_000 * 64_000 * 4) < 1.001
    assert 1 <= sizes["bfloat16"] / (10_000 * 64_000 * 2) < 1.001
    assert 1 <= sizes["int8"] / (10_000 * 64_000) < 1.01

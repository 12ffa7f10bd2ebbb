"""Files as users export them, read as they are written; and files that can't be."""

from __future__ import annotations

import bz2
import datetime
import gzip
import json
import lzma
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from fourierft.errors import DataError
from fourierft.training.cells import column_names, read_column
from fourierft.training.files import find_format, read_file

LABELS = ["001", "01", "10", "1e1", "NA", "None", "null", "2020-01-31", "true", "ja; nein", "naïve"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fourierft"


def column(path: Path, name: str = "label") -> list[Any]:
    return list(read_column(read_file(path), name))


def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": [f"film {k}" for k in range(len(LABELS))], "label": LABELS})


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", lambda path: frame().to_csv(path, index=False)),
        ("index.csv", lambda path: frame().to_csv(path)),
        (
            "excel.csv",
            lambda path: frame().to_csv(path, sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n"),
        ),
        ("unicode.csv", lambda path: frame().to_csv(path, sep="\t", index=False, encoding="utf-16")),
        ("wide.csv", lambda path: frame().to_csv(path, index=False, encoding="utf-32")),
        ("sqlite.csv", lambda path: frame().to_csv(path, sep="|", index=False)),
        ("a.tsv", lambda path: frame().to_csv(path, sep="\t", index=False)),
        ("A.CSV", lambda path: frame().to_csv(path, index=False)),
        ("a.csv.gz", lambda path: frame().to_csv(path, index=False)),
        ("records.json", lambda path: frame().to_json(path, orient="records")),
        ("plain.json", lambda path: frame().to_json(path, orient="records", force_ascii=False, indent=2)),
        ("a.jsonl", lambda path: frame().to_json(path, orient="records", lines=True)),
        ("a.ndjson", lambda path: frame().to_json(path, orient="records", lines=True)),
        ("a.jsonl.xz", lambda path: frame().to_json(path, orient="records", lines=True)),
        ("a.parquet", lambda path: frame().to_parquet(path)),
        ("category.parquet", lambda path: frame().astype({"label": "category"}).to_parquet(path)),
    ],
)
def test_labels_are_as_they_are_written(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    rows = read_file(tmp_path / name)
    assert list(read_column(rows, "label")) == LABELS
    assert column_names(rows)[:2] == ["text", "label"]
    assert rows["__row__"][:] == list(range(1, len(LABELS) + 1))
    assert set(rows["__file__"]) == {str(tmp_path / name)}


def test_numbers_and_truth_values_of_json_are_text_as_written(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"label": 4}\n{"label": 4.50}\n{"label": null}\n{"label": false}\n{}\n{"x": "y"}'
    )
    with pytest.raises(DataError, match=r"row 5 of .* is {}, not an object"):
        read_file(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text('{"label": 4}\n{"label": 4.50}\n{"label": null}\n{"label": false}\n{"x": "y"}')
    assert column(tmp_path / "a.jsonl") == ["4", "4.50", None, "false", None]


def test_a_label_may_become_a_word_after_many_rows(tmp_path: Path) -> None:
    labels = [str(k % 7) for k in range(12_000)] + ["unsure"]
    (tmp_path / "a.csv").write_text("label,text\n" + "".join(f"{label},film\n" for label in labels))
    assert column(tmp_path / "a.csv") == labels
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"label": {label}}}\n' for label in labels[:-1]) + '{"label": "unsure"}'
    )
    assert column(tmp_path / "a.jsonl") == labels


def test_conversations_of_mixed_form_are_as_they_are_written(tmp_path: Path) -> None:
    chats = [
        [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": None}],
        [{"role": "assistant", "content": "a", "tool_calls": [{"function": {"arguments": {"x": 0.1, "y": None}}}]}],
        "no list",
        None,
    ]
    (tmp_path / "a.json").write_text(json.dumps([{"id": k, "messages": chat} for k, chat in enumerate(chats)]))
    assert column(tmp_path / "a.json", "messages") == chats


def test_types_of_a_parquet_file_are_kept(tmp_path: Path) -> None:
    table = pa.table(
        {
            "large": pa.array(["a", None], pa.large_string()),
            "coded": pa.array(["x", "x"]).dictionary_encode(),
            "price": pa.array([Decimal("1.50"), None]),
            "time": pa.array([datetime.datetime(2020, 1, 31)] * 2),
            "words": pa.array([["a", "b"], []]),
            "whole": pa.array([1.0, float("nan")]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = read_file(tmp_path / "a.parquet")
    assert [next(read_column(rows, name)) for name in table.column_names] == [
        *("a", "x", Decimal("1.50"), datetime.datetime(2020, 1, 31), ["a", "b"], 1.0)
    ]
    assert list(read_column(rows, "whole")) == [1.0, None]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_files_are_unpacked(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(pack("text,label\nnaïve,1\n".encode()))
    assert column(path, "text") == ["naïve"]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"a\.csv\.\w+ can't be unpacked: .*; download or pack it again") as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label\nyes\n")
    times = path.stat()
    assert column(path) == column(path) == ["yes"]
    assert len(list(cache.iterdir())) == 1
    path.write_text("label\nno!\n")  # as long as before, and as old as before
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert column(path) == ["no!"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", None, "does not exist"),
        ("a.csv", b"", "is empty; give one with at least one row"),
        ("a.csv", b"text,label\n", "has no rows; give at least one"),
        ("a.csv", b"\n", "is empty; it needs a line of column names"),
        ("a.json", b"[]", "has no rows; give at least one"),
        ("a.docx", b"text", r"unknown format \.docx; use one of \.csv, \.tsv, \.json, \.jsonl, \.ndjson, \.parquet"),
        ("a.gz", b"text", r"unknown format \.gz; use one of"),
        ("a.xlsx", b"text", r"unknown format \.xlsx; save it as CSV UTF-8"),
        ("a", b"text", r"unknown format \(no suffix\)"),
        ("a.jsonl", b'{"text": ', "can't be read: line 1: Expecting value"),
        ("a.parquet", b"text", "can't be read"),
        ("a.csv.gz", b"text,label\n", "can't be unpacked: Not a gzipped file"),
        ("a.csv.zst", b"", r"unknown format \.zst; unpack it first, or pack it as one of \.gz, \.bz2, \.xz"),
        ("a.arrow", b"", r"unknown format \.arrow; save its table as parquet, or use one of"),
        (
            *("a.csv", "text,label\na,b\nnaïve,x\n".encode("cp1252")),
            "line 3 is not UTF-8, but has the byte 0xef; in cp1252, as Windows and Excel write, it reads 'naïve,x'; "
            r"save it in UTF-8 \(in Excel: CSV UTF-8\), or if that reads right: iconv -f cp1252 -t utf-8",
        ),
        ("a.json", '[{"a": "ü"}]'.encode("cp1252"), r"line 1 is not UTF-8, .* byte 0xfc; in cp1252, .* reads .*ü"),
        ("a.csv", "text,label\na,ü".encode()[:-1], r"line 2 is not UTF-8, but has the byte 0xc3"),
        ("a.csv", "text,label\na,b\n".encode("utf-16-le"), r"has zero bytes, .*\(in Excel: CSV UTF-8\)"),
        ("a.jsonl", b'{"a": "x"}\n{"a": "\\ud83d"}\n', "row 2 of .* has half of a character"),
        ("a.csv", gzip.compress(b"text,label\n", mtime=0), r"is packed by gzip; let its name end in \.gz"),
        ("a.csv", b"PK\x03\x04...", "is a zip archive, as workbooks of Excel are; .* save its sheet as CSV UTF-8"),
        ("a.json", b"PAR1...", r"is a parquet file; let its name end in \.parquet"),
        ("a.csv", b"\n<!DOCTYPE HTML><html>", "is a web page, as where a download asks for a login"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "what Git LFS keeps in its place; fetch it"),
        ("a.csv", b"text,__row__\na,1\n", "has a column __row__, a name that this package uses itself; rename it"),
    ],
)  # fmt: skip
def test_unusable_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for _ in range(2):  # what could not be read leaves nothing in the cache
        with pytest.raises(DataError, match=message) as caught:
            read_file(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_cache_without_room_is_told(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.csv").write_text("label\nyes\n")
    cache.parent.write_text("a file where the folder would be")
    with pytest.raises(
        DataError, match=r"can't be read, because the cache .*; set HF_DATASETS_CACHE to a writable folder"
    ):
        read_file(tmp_path / "a.csv")


def test_the_format_is_that_of_the_name() -> None:
    assert [find_format(name) for name in ("x/a.b.CSV", "a.csv.gz", "a.tar", ".csv", "a")] == [
        *(".csv", ".csv", ".tar", "", "")
    ]

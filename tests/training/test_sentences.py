"""The data set of the quickstart: labels from ratings, each text once, the same split everywhere."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import pytest

from fourierft.errors import DataError
from fourierft.training.sentences import MEMBER, read_ratings, read_sentences, split_rows, write_csv


def make_archive(file: Path, text: bytes, name: str = MEMBER) -> Path:
    """An archive like VADER's with one file."""
    with tarfile.open(file, "w:gz") as packed:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        packed.addfile(member, io.BytesIO(text))
    return file


def test_label_is_the_sign_of_the_rating(tmp_path: Path) -> None:
    lines = [
        b"1\t2.3\tA fine film.",
        b'2\t-0.6\tToo tepid, "really" ',
        b"3\t0.4\tMild.",
        b"4\t-0.5\tA caf\xe9.",
        b"5\t3\tA fine film.",
    ]
    text = b"\r\n".join(lines)
    assert read_sentences(make_archive(tmp_path / "a.tar.gz", text)) == [
        ("A fine film.", "positive"),
        ('Too tepid, "really"', "negative"),
        ("A caf\ufffd.", "negative"),
    ]


@pytest.mark.parametrize("line", [b"1\tno number\ttext", b"1\t2.0", b""])
def test_line_of_another_form_is_named(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(DataError, match="line 2 of"):
        read_sentences(make_archive(tmp_path / "a.tar.gz", b"1\t2.0\tfine\n" + line + b"\n"))


def test_archive_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable"):
        read_sentences(make_archive(tmp_path / "a.tar.gz", b"", "other.txt"))
    with pytest.raises(DataError, match="no readable"):
        read_sentences(tmp_path / "missing.tar.gz")


def test_splits_are_disjoint_and_repeatable() -> None:
    rows = [(f"text {k}", "positive") for k in range(50)]
    splits = split_rows(rows, {"train": 30, "validation": 15}, seed=7)
    assert {name: len(split) for name, split in splits.items()} == {"train": 30, "validation": 15}
    assert len({*splits["train"], *splits["validation"]}) == 45
    assert splits == split_rows(rows, {"train": 30, "validation": 15}, seed=7)
    assert splits != split_rows(rows, {"train": 30, "validation": 15}, seed=8)


def test_too_few_sentences_are_refused() -> None:
    with pytest.raises(DataError, match="3 sentences were requested, but there are only 2"):
        split_rows([("a", "positive"), ("b", "negative")], {"train": 3}, seed=0)


def test_csv_reads_back(tmp_path: Path) -> None:
    rows = [('He said "no", twice', "negative"), ("Fine", "positive")]
    write_csv(rows, tmp_path / "data" / "train.csv")
    with (tmp_path / "data" / "train.csv").open(newline="", encoding="utf-8") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("text", "label"), *rows]
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_ratings_are_kept_whole_and_the_first_of_a_text_counts(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", b"1\t2.3\tFine.\n2\t-0.1\tMild.\n3\t1.0\tFine.\n")
    assert read_ratings(archive) == {"Fine.": 2.3, "Mild.": -0.1}

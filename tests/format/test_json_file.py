"""JSON from outside: read right, or refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fourierft.errors import CheckpointError
from fourierft.format.json_file import is_number, is_text, parse_json, read_json, shown


def test_what_json_can_say_is_read() -> None:
    text = '{"a": [1, -2.5e3, true, null, "\\u00fc\\ud83c\\udf88"], "": {}, "18": 18446744073709551615}'
    assert parse_json(text, "f") == {"a": [1, -2500.0, True, None, "ü🎈"], "": {}, "18": 2**64 - 1}
    assert parse_json(text.encode(), "f") == parse_json(text, "f")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("NaN", "NaN is not valid JSON"),
        ("[-Infinity]", "-Infinity is not valid JSON"),
        ("1e999", "1e999 is beyond what a number can be"),
        ("9" * 400, "an integer of 400 digits"),
        ("[" * 5000 + "]" * 5000, "brackets within"),
        ("[" * 40 + "]" * 40, "more than 32 brackets within one another"),
        ('{"a":' * 33 + "1" + "}" * 33, "more than 32 brackets within one another"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' comes twice"),
        ('{"b": "\\ud800"}', r"the text '\ud800' is not valid Unicode"),
        ('{"\\udfff": 1}', r"the text '\udfff' is not valid Unicode"),
        (b'"\xff"', "invalid start byte"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('"' + "x" * 200 + "\\ud800" + '"', "is not valid Unicode"),
    ],
)
def test_what_json_leaves_open_is_refused(text: str | bytes, word: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_json(text, "config.json")
    message = str(caught.value)
    assert message.startswith("config.json cannot be read as JSON (")
    assert word in message
    assert len(message) < 250
    message.encode()


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "large").write_text("[1, 2, 3]")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    for name, word in {
        "nothing": "is missing",
        "folder": "is not an ordinary file",
        "pipe": "is not an ordinary file",
        "loop": "cannot be opened",
        "device": "is not an ordinary file",
        "large": "has 9 bytes, which is more than the 8 that it may have",
        "sparse": "has 1,099,511,627,776 bytes",
        "x" * 300: "cannot be opened",
        "a\0b": "cannot be opened",
    }.items():
        with pytest.raises(CheckpointError, match=word):
            read_json(tmp_path / name, largest=8)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("[1]")
    (tmp_path / "config.json").symlink_to("blob")  # so does the hub's cache
    assert read_json(tmp_path / "config.json") == [1]


def test_values_are_shown_on_one_short_line() -> None:
    for value in ("x" * 10000, ["y" * 500] * 500, {"a": {"b": [[[[[[1]]]]]]}}, 10**24, "\ud800\n\x1b[0m"):
        assert len(shown(value)) < 600
        assert shown(value).isprintable()


def test_texts_and_numbers_are_told_from_what_looks_like_them() -> None:
    assert is_text("ü")
    assert not is_text("\udc80")
    assert not is_text(b"a")
    assert not is_text("a\nb", 10)
    assert not is_text("abc", 2)
    assert is_number(1, 0, 2)
    assert not any(is_number(value, 0, 2) for value in (True, "1", None, float("nan"), 3, 10**400))

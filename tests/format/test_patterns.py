"""Patterns from a file: the names that `re` finds, in time that no pattern can stretch."""

from __future__ import annotations

import random
import re
import time

import pytest

from fourierft.errors import CheckpointError
from fourierft.format.patterns import FrequencyPattern

PIECES = [
    *("a", "b", "1", ".", r"\.", "q_proj", "layer", r"\d", r"\d+", "[ab]", "[^a]", "[0-9]", "(a|b)", "(?:a|b)*"),
    *("*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "$", "|", "(", ")", ".*", ".*?", "{", "}", "]", r"\w", "a{0}"),
]
NAMES = [
    *("a", "b", "a.b", "x.a", "x.layer.1.q_proj", "model.layers.12.q_proj", "b.a.b", "q_proj", "aa.bb", "a.ab", "1.2"),
    *("x.{", "x.}", "x.]", "x.a{", "x.ab", "x.aab", "x.aaab", ".a", "x.12", "a."),
]


def test_names_are_those_that_re_finds() -> None:
    rng, compared = random.Random(3), 0
    for _ in range(2500):
        key = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5)))
        try:
            ours = FrequencyPattern({key: 5})
        except CheckpointError:
            continue
        theirs = re.compile(rf".*\.{key}$")  # what is not refused is a pattern of `re` too
        for name in NAMES:
            assert ours.find(name) == (5 if theirs.match(name) or name == key else None), (key, name)
        compared += 1
    assert compared > 1200


@pytest.mark.parametrize(
    "key",
    [
        "model.layers.0.self_attn.q_proj",
        r"layer\.0\.attention\.self\.query",
        r".*layers\.(0|1|2)\.self_attn\.(q|v)_proj",
        r"(?:.*?(?:language|text).*?(?:self_attn|attention).*?(?:q_proj|v_proj).*?)|model.layers.[0-9]+.mlp",
        r"layers\.\d{1,2}\.mlp\.(gate|up|down)_proj$",
        "q_proj|v_proj",
    ],
)
def test_patterns_that_people_write_are_read(key: str) -> None:
    names = [f"model.layers.{k}.{part}" for k in (0, 2, 31) for part in ("self_attn.q_proj", "mlp.up_proj")]
    names += ["bert.encoder.layer.0.attention.self.query", "text.model.self_attn.v_proj", "v_proj"]
    for name in names:
        expected = 5 if re.match(rf".*\.{key}$", name) or name == key else None
        assert FrequencyPattern({key: 5}).find(name) == expected


def test_the_first_key_that_fits_counts_and_a_whole_name_comes_last() -> None:
    pattern = FrequencyPattern({"x.q": 1, "q": 2, "k": 3})
    assert [pattern.find(name) for name in ("x.q", "y.x.q", "y.q", "k", "v")] == [2, 1, 2, 3, None]


@pytest.mark.parametrize("key", ["(a+)+b", "(a|a)*b", "(a|aa)+$b", "(.*a){12}", ".*.*.*.*.*.*.*.*b", "((((a*)*)*)*)*b"])
def test_no_pattern_takes_long(key: str) -> None:
    start = time.thread_time()  # its own, which others' work does not lengthen
    FrequencyPattern({key: 1}).find("x." + "a" * 400)
    assert time.thread_time() - start < 1


def test_many_patterns_on_many_layers_are_given_up() -> None:
    many = FrequencyPattern({f".*.*.*a{k}": 1 for k in range(200)})
    with pytest.raises(CheckpointError, match="take too long to match; use names of layers, or fewer patterns"):
        FrequencyPattern({f"(.*a){{40}}(.*b){{20}}{k}": 1 for k in range(2000)})
    with pytest.raises(CheckpointError, match="take too long to match; use names of layers, or fewer patterns"):
        [many.find("ab." * 100 + str(k)) for k in range(2000)]


@pytest.mark.parametrize(
    "key",
    [
        *("(?=a)b", r"(a)\1", "(?i)a", r"\bq", "a**", "a*+", "(", ")", "a{400}{400}", "(a{100}){100}", "[a", "a\0"),
        *("[[a]]", "[b-a]", "(" * 400, "((){400}){400}", "a" * 600 + "*", "x{99999999999}", "q|^k"),
    ],
)
def test_what_is_more_than_a_pattern_is_refused(key: str) -> None:
    with pytest.raises(CheckpointError, match="a pattern that is not allowed in a file") as caught:
        FrequencyPattern({key: 1})
    assert len(str(caught.value)) < 400

"""NIST and CIDEr against cases computed by hand, and NIST against nltk where both mean the same."""

from __future__ import annotations

import math
import random

import pytest
from nltk.translate.nist_score import corpus_nist

from fourierft.training.generation.ngrams import cider, nist


def sentences(seed: int, count: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [[draw.choice("abcdef") for _ in range(draw.randint(5, 12))] for _ in range(count)]


def test_nist_by_hand() -> None:
    # References a b, a c: 4 words, a twice. Information: a log2(4/2) = 1, b and c log2(4/1) = 2, a b log2(2/1) = 1.
    # One-word terms of "a b": (1 + 2) / 2; two-word terms: 1 / 1; nothing longer. The length is the references' mean.
    assert nist([["a", "b"]], [[["a", "b"], ["a", "c"]]]) == pytest.approx(1.5 + 1.0)


def test_nist_halves_at_two_thirds_of_the_mean_length() -> None:
    # References a b c and a d e: a has log2(6/2), b log2(6/1), a b log2(2/1); 2 words of 3.
    whole = (math.log2(3) + math.log2(6)) / 2 + 1.0
    assert nist([["a", "b"]], [[["a", "b", "c"], ["a", "d", "e"]]]) == pytest.approx(whole / 2)


def test_nist_of_one_reference_is_nltk_s() -> None:
    predictions, references = sentences(0, 30), [[sentence] for sentence in sentences(1, 30)]
    assert nist(predictions, references) == pytest.approx(corpus_nist(references, predictions, n=5), rel=1e-12)


def test_nist_matches_several_references_together() -> None:
    # "a b" with references "a x" and "b y": each word is in one of them. All information is log2(4/1) = 2.
    references = [[["a", "x"], ["b", "y"]]]
    assert nist([["a", "b"]], references) == pytest.approx(2.0)
    assert corpus_nist(references, [["a", "b"]], n=2) == pytest.approx(1.0)  # one reference alone


def test_nist_of_nothing_is_zero() -> None:
    assert nist([[]], [[["a"]]]) == 0.0


def test_cider_of_equal_sentences_is_ten() -> None:
    rows = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert cider(rows, [[row] for row in rows]) == pytest.approx(10.0)


def test_cider_by_hand() -> None:
    # Two rows; every word is in the references of one: idf = log 2 throughout. The first prediction, a b, against a c:
    # one of two words, cosine 1/2; no pair in common; nothing longer. The second, d, has no n-gram of its reference.
    value = cider([["a", "b"], ["d"]], [[["a", "c"]], [["e"]]])
    assert value == pytest.approx(10 * 0.5 / 4 / 2)


def test_cider_clips_repeats_and_counts_length() -> None:
    # a a a against a: the vector (3) is cut to (1): 1 * 1 / (3 * 1). Two words too many: exp(-4 / 72).
    value = cider([["a", "a", "a"], ["b"]], [[["a"]], [["b"]]])
    assert value == pytest.approx(10 * (math.exp(-4 / 72) / 3 + 1) / 4 / 2)


def test_cider_ignores_what_every_row_says() -> None:
    # "the" is in the references of both rows: idf 0. What is left is one word a row, and it is right.
    predictions = [["the", "a"], ["the", "b"]]
    once = cider(predictions, [[["the", "a"]], [["the", "b"]]])
    assert once == pytest.approx(10 * 2 / 4)  # words and pairs


def test_cider_is_the_mean_over_references() -> None:
    predictions = [["a"], ["b"]]
    assert cider(predictions, [[["a"], ["c"]], [["b"]]]) == pytest.approx(10 * (0.5 + 1) / 4 / 2)


def test_cider_of_nothing_is_zero() -> None:
    assert cider([[], ["z"]], [[["a"]], [["b"]]]) == 0.0

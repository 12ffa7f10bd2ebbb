"""Five metrics of texts: hand-computed cases, and what they leave out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sacrebleu
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer

from fourierft.errors import DataError, MissingExtraError
from fourierft.training.generation.metrics import NoSynonyms, bleu, meteor, rouge_l, score_texts
from fourierft.training.generation.tokens import split_mteval, split_treebank
from fourierft.training.generation.wordnet import WordNet


def test_tokens_are_those_of_the_official_scripts() -> None:
    text = 'The Vaults costs £20-25. It isn\'t "cheap", yes?'
    assert split_mteval(text) == (
        ["the", "vaults", "costs", "£20", "-", "25", ".", "it", "isn't", '"', "cheap", '"', ",", "yes", "?"]
    )
    assert split_treebank(text) == ["the", "vaults", "costs", "£20-25", "it", "is", "n't", "cheap", "yes"]


def test_perfect_texts_reach_the_top_of_every_scale() -> None:
    texts = ["Aromi is a cheap pub in the city .", "The restaurant Zizzi has very high prices ."]
    scores = score_texts(texts, [[text, "Another one ."] for text in texts])
    assert scores["bleu"] == pytest.approx(100)
    assert scores["rouge_l"] == pytest.approx(100)
    assert scores["cider"] == pytest.approx(10 / 2)  # the second reference has nothing in common
    assert scores["meteor"] > 99


def test_bleu_by_hand() -> None:
    # Words 4 of 5, pairs 3 of 4, triples 2 of 3, fours 1 of 2 are in a reference; the nearer one has 5 words.
    value = bleu(["a b c d x"], [["a b c d e", "f g h i j k l m"]])
    assert value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_bleu_takes_rows_with_fewer_references_and_ignores_case() -> None:
    texts = ["The pub Aromi has high prices .", "Zizzi is a cheap bar ."]
    rows = [["The pub Aromi has low prices .", "Aromi is a pub .", "A pub ."], ["zizzi is a cheap BAR ."]]
    same = [[*row, *row[:1] * (3 - len(row))] for row in rows]
    expected = sacrebleu.corpus_bleu(texts, list(zip(*same, strict=True)), lowercase=True, force=True)
    assert bleu(texts, rows) == pytest.approx(expected.score)
    assert bleu(["a b"], [["c d"]]) == 0.0


def test_rouge_takes_best_precision_and_best_recall() -> None:
    # a b c against "a b c d e f" has precision 1 and recall 1/2, against "b x" precision 1/3 and recall 1/2.
    value = rouge_l(list("abc"), [list("abcdef"), list("bx")])
    assert value == pytest.approx((1 + 1.44) * 1 * 0.5 / (0.5 + 1.44 * 1))
    assert rouge_l(list("abc"), [list("xyz")]) == 0.0
    assert rouge_l([], [list("xyz")]) == 0.0


def test_rouge_of_equal_lengths_is_rouge_score_s() -> None:
    first, second = "the pub has low prices", "the old pub has prices"
    expected = RougeScorer(["rougeL"]).score(first, second)["rougeL"].fmeasure
    assert rouge_l(second.split(), [first.split()]) == pytest.approx(expected)


def test_meteor_by_hand_with_stems_and_synonyms(wordnet_folder: Path) -> None:
    # "dogs sprint" against "dog run": a stem and a synonym match, in one chunk: F = 1, penalty 0.5 * (1 / 2)^3.
    full = 1 - 0.5 * (1 / 2) ** 3
    assert meteor(["dogs", "sprint"], [["dog", "run"]], WordNet(wordnet_folder)) == pytest.approx(full)
    # Without synonyms one of two words: F = 1/2, one chunk a word: penalty 0.5.
    assert meteor(["dogs", "sprint"], [["cat"], ["dog", "run"]], None) == pytest.approx(0.5 * 0.5)
    assert meteor([], [["dog"]], None) == 0.0


def test_scores_are_the_mean_of_rows(wordnet_folder: Path) -> None:
    texts, rows = ["dogs sprint", "one pub"], [["a dog run", "cats"], ["two pubs"]]
    scores = score_texts(texts, rows, WordNet(wordnet_folder))
    expected = [
        meteor_score([reference.split() for reference in row], text.split(), wordnet=WordNet(wordnet_folder))
        for text, row in zip(texts, rows, strict=True)
    ]
    assert scores["meteor"] == pytest.approx(100 * sum(expected) / 2)
    assert score_texts(texts, rows)["meteor"] < scores["meteor"]
    assert NoSynonyms().synsets("dog") == []


@pytest.mark.parametrize(("texts", "rows"), [([], []), (["a"], [["a"], ["b"]]), (["a"], [[]])])
def test_rows_without_text_or_reference_are_refused(texts: list[str], rows: list[list[str]]) -> None:
    with pytest.raises(DataError, match="can't be scored against references of"):
        score_texts(texts, rows)


@pytest.mark.parametrize("library", ["sacrebleu", "nltk", "rouge_score"])
def test_library_that_is_missing_is_named_with_its_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    package = library.replace("_", "-")
    with pytest.raises(MissingExtraError, match=rf"needs {package}; pip install 'fourierft\[generation\]'"):
        score_texts(["a"], [["a"]])

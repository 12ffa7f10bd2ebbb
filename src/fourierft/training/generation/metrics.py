"""The five metrics of the E2E challenge, each text against all its references.

| metric | computed by | as the challenge's script |
|---|---|---|
| BLEU | sacrebleu, 13a tokens in lower case, no smoothing | the same |
| NIST | `ngrams.nist` | the same |
| METEOR | nltk (Lavie and Agarwal 2007): exact words, stems, and synonyms if WordNet is there | another: METEOR 1.5 |
| ROUGE-L | rouge-score's precision and recall; best of each, F with beta 1.2, as coco-caption | the same |
| CIDEr | `ngrams.cider` | the same |
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.training.generation import ngrams
from fourierft.training.generation.tokens import split_mteval, split_treebank
from fourierft.training.generation.wordnet import WordNet

ROUGE_BETA = 1.2


class NoSynonyms:
    """In WordNet's place for METEOR."""

    def synsets(self, word: str) -> list[Any]:
        return []


class Words:
    """A tokenizer of words that are tokens already, for rouge-score."""

    def tokenize(self, words: list[str]) -> list[str]:
        return words


def require_metrics() -> None:
    """Raise MissingExtraError, before time is spent on generating, if a library of the metrics is not there."""
    with needs("generation", "scoring texts"):
        import nltk  # noqa: F401
        import rouge_score  # noqa: F401
        import sacrebleu  # noqa: F401


def score_texts(
    predictions: Sequence[str], references: Sequence[Sequence[str]], wordnet: WordNet | None = None
) -> dict[str, float]:
    """BLEU, METEOR and ROUGE-L from 0 to 100; NIST, and CIDEr from 0 to 10, as they are usually told.

    Args:
        predictions: one a row.
        references: of each row, one or more.
        wordnet: gives METEOR its synonyms.

    Raises: DataError, if there are no rows, or one has no reference. MissingExtraError, if a library is not there.
    """
    if not predictions or len(predictions) != len(references) or not all(references):
        raise DataError(
            f"{len(predictions)} texts can't be scored against references of {len(references)} "
            "rows; give one text and at least one reference for each row"
        )
    require_metrics()
    plain = [split_mteval(text) for text in predictions], [[split_mteval(text) for text in row] for row in references]
    bare = (
        [split_treebank(text) for text in predictions],
        [[split_treebank(text) for text in row] for row in references],
    )
    return {
        "bleu": bleu(predictions, references),
        "nist": ngrams.nist(*plain),
        "meteor": 100 * fmean(meteor(words, row, wordnet) for words, row in zip(*bare, strict=True)),
        "rouge_l": 100 * fmean(rouge_l(words, row) for words, row in zip(*bare, strict=True)),
        "cider": ngrams.cider(*bare),
    }


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 from 0 to 100: the reference nearest in length counts for brevity."""
    with needs("generation", "scoring texts"):
        from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    streams: Any = [[row[index] if index < len(row) else None for row in references] for index in range(most)]
    metric = BLEU(lowercase=True, tokenize="13a", smooth_method="none", force=True)
    return float(metric.corpus_score(list(predictions), streams).score)


def meteor(prediction: list[str], references: list[list[str]], wordnet: WordNet | None) -> float:
    """METEOR of one text from 0 to 1, against the reference that gives most. nltk looks for synonyms of stems."""
    with needs("generation", "scoring texts"):
        from nltk.translate.meteor_score import meteor_score

    known: Any = NoSynonyms() if wordnet is None else wordnet
    return float(meteor_score(references, prediction, wordnet=known))


def rouge_l(prediction: list[str], references: list[list[str]]) -> float:
    """ROUGE-L of one text from 0 to 1: F with beta 1.2 of the best precision and the best recall of any reference."""
    with needs("generation", "scoring texts"):
        from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    scores = [scorer.score(reference, prediction)["rougeL"] for reference in references]
    precision, recall = max(score.precision for score in scores), max(score.recall for score in scores)
    square = ROUGE_BETA**2
    return (1 + square) * precision * recall / (recall + square * precision) if precision and recall else 0.0

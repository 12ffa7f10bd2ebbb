"""NIST and CIDEr: metrics of weighted n-grams that no kept library computes as the E2E challenge does.

Both take words: a prediction a row, and the references of each row, one or more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain

Words = Sequence[str]
Ngrams = Counter[tuple[str, ...]]

NIST_ORDER = 5
NIST_BETA = -math.log(0.5) / math.log(1.5) ** 2  # half the score at two thirds of the length
CIDER_ORDER = 4
CIDER_SIGMA = 6.0


def count_ngrams(words: Words, order: int) -> Ngrams:
    """How often each n-gram of this order is in the words."""
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def nist(predictions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """NIST, n-grams up to 5, as mteval-v13a and the challenge's own script: the information of matched n-grams a
    predicted n-gram, summed over orders, times a penalty for brevity.

    An n-gram matches as often as the reference that has it most often; lengths are compared with the mean of the
    references. (nltk takes the best single reference of each order instead; with one reference both agree.)

    Source: Doddington 2002, Eq. 2 and 3.
    """
    texts = list(chain.from_iterable(references))
    known = [Ngrams({(): sum(map(len, texts))})]
    known += [sum((count_ngrams(text, order) for text in texts), Ngrams()) for order in range(1, NIST_ORDER + 1)]
    total = 0.0
    for order in range(1, NIST_ORDER + 1):
        information, predicted = 0.0, 0
        for words, group in zip(predictions, references, strict=True):
            found = count_ngrams(words, order)
            predicted += found.total()
            limits = merge([count_ngrams(reference, order) for reference in group])
            for ngram, count in (found & limits).items():
                information += count * math.log2(known[order - 1][ngram[:-1]] / known[order][ngram])
        total += information / predicted if predicted else 0.0
    length = sum(map(len, predictions))
    expected = sum(sum(map(len, group)) / len(group) for group in references)
    if not length:
        return 0.0
    return total * math.exp(-NIST_BETA * math.log(min(1.0, length / expected)) ** 2)


def merge(counts: Sequence[Ngrams]) -> Ngrams:
    """Each n-gram as often as in the count that has it most often."""
    merged = Ngrams()
    for count in counts:
        merged |= count
    return merged


def cider(predictions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """CIDEr as coco-caption and the challenge's script compute it: CIDEr-D, without stemming.

    Mean over rows, references and orders 1 to 4 of ten times the cosine of tf-idf vectors, the prediction's clipped to
    the reference's, times exp(-(difference of lengths)^2 / 72). A row counts as one document, whatever its references.
    One row alone has idf 0 everywhere, and scores 0.

    Source: Vedantam et al. 2015, Eq. 4 (tf-idf) and Sec. 6 (CIDEr-D).
    """
    orders = range(1, CIDER_ORDER + 1)
    rows = math.log(len(predictions))
    total = 0.0
    for order in orders:
        documents = Ngrams(
            chain.from_iterable(
                {ngram for reference in group for ngram in count_ngrams(reference, order)} for group in references
            )
        )

        def weigh(words: Words, order: int = order, documents: Ngrams = documents) -> dict[tuple[str, ...], float]:
            return {
                ngram: count * (rows - math.log(max(1, documents[ngram])))
                for ngram, count in count_ngrams(words, order).items()
            }

        for words, group in zip(predictions, references, strict=True):
            found = weigh(words)
            similarities = (
                clipped_cosine(found, weigh(reference))
                * math.exp(-((len(words) - len(reference)) ** 2) / (2 * CIDER_SIGMA**2))
                for reference in group
            )
            total += sum(similarities) / len(group)
    return 10 * total / (CIDER_ORDER * len(predictions))


def clipped_cosine(found: dict[tuple[str, ...], float], wanted: dict[tuple[str, ...], float]) -> float:
    """Cosine of two sparse vectors, the first cut down to the second; 0 if one is empty."""
    size = math.hypot(*found.values()) * math.hypot(*wanted.values())
    product = sum(min(value, wanted[ngram]) * wanted[ngram] for ngram, value in found.items() if ngram in wanted)
    return product / size if size else 0.0

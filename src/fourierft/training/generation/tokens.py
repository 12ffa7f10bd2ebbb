"""Words as the official scripts of the E2E challenge count them, in lower case."""

from __future__ import annotations

import re
from functools import lru_cache

from fourierft.extras import needs

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
PUNCTUATION = {"''", "'", "``", "`", '"', "(", ")", "[", "]", "{", "}", ".", "?", "!", ",", ":", "-", "--", "...", ";"}


def split_mteval(text: str) -> list[str]:
    """Words and punctuation of mteval-v13a, for BLEU and NIST: sacrebleu's "13a"."""
    return str(_mteval()(text.lower())).split()


def split_treebank(text: str) -> list[str]:
    """Words of the Penn Treebank without punctuation, for METEOR, ROUGE-L and CIDEr: nltk's rules, a sentence at a
    time. coco-caption runs Stanford's PTBTokenizer, which cuts the same way but for rare abbreviations."""
    words = (word for sentence in SENTENCE_END.split(text.lower()) for word in _treebank().tokenize(sentence))
    return [word for word in words if word not in PUNCTUATION]


@lru_cache(maxsize=1)
def _mteval():  # type: ignore[no-untyped-def]
    with needs("generation", "scoring texts"):
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


@lru_cache(maxsize=1)
def _treebank():  # type: ignore[no-untyped-def]
    with needs("generation", "scoring texts"):
        from nltk.tokenize import TreebankWordTokenizer

    return TreebankWordTokenizer()

"""Names in sentences, as the tags of words tell them: where one begins, goes on and ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

OUTSIDE = "O"
_MARKED = re.compile(r"[BIESLU]-.")


class Span(NamedTuple):
    """Words that are one name: from `start` on, up to but not with `end`, by their number from 0 on."""

    label: str
    start: int
    end: int


def tells_names(tags: Sequence[str]) -> bool:
    """Whether tags say how names begin and go on."""
    return any(tag != OUTSIDE for tag in tags) and all(tag == OUTSIDE or _MARKED.match(tag) for tag in tags)


def stray_tags(tags: Sequence[str]) -> list[str]:
    """The tags that tell nothing of names, where others do."""
    plain = [tag for tag in tags if tag != OUTSIDE and not _MARKED.match(tag)]
    return plain if any(_MARKED.match(tag) for tag in tags) else []


def find_spans(tags: Sequence[str]) -> list[Span]:
    """The names that tags make: none, if they do not tell any.

    A name ends before a tag of another kind and one that begins a name (B-, S-, U-), and behind one that ends it (E-,
    L-, S-, U-); I- begins one where none goes on, as CoNLL's script has it.
    """
    if not tells_names(tags):
        return []
    spans: list[Span] = []
    before, kind = OUTSIDE, ""
    for place, tag in enumerate(tags):
        mark, _, own = tag.partition("-")
        if mark != OUTSIDE:
            goes_on = own == kind and mark in "IEL" and before in ("B", "I")
            if goes_on:
                spans[-1] = spans[-1]._replace(end=place + 1)
            else:
                spans.append(Span(own, place, place + 1))
        before, kind = mark, own
    return spans

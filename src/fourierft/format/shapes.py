"""The shapes of many layers in few words: by the ends of their names, the longest that is known counts.

All of a LLaMA's 224 linear layers are seven lines: {"q_proj": [4096, 4096], "down_proj": [4096, 11008], ...}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Shape = tuple[int, int]  # (out_features, in_features)


def compact(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Ends of names -> shape, such that `find_shape` gives back every layer's.

    Args:
        shapes: name of each layer -> its shape.
    """
    votes: dict[str, Counter[Shape]] = {}
    for name, shape in shapes.items():
        votes.setdefault(_last(name), Counter())[shape] += 1
    ends = {end: counts.most_common(1)[0][0] for end, counts in votes.items()}
    while wrong := {name: shape for name, shape in shapes.items() if find_shape(ends, name) != shape}:
        ends |= wrong  # a whole name is the longest end of it
    return ends


def find_shape(ends: Mapping[str, Shape], name: str) -> Shape | None:
    """The shape of a layer, None if no end of its name is known."""
    end = name
    while end not in ends:
        _, dot, end = end.partition(".")
        if not dot:
            return None
    return ends[end]


def _last(name: str) -> str:
    return name.rpartition(".")[2]

"""The shapes of many layers in few words: by the ends of their names, the longest that is known counts.

All of a LLaMA's 224 linear layers are seven lines: {"q_proj": [4096, 4096], "down_proj": [4096, 11008], ...}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

Shape = tuple[int, int]  # (out_features, in_features)


def compact(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Ends of names -> shape, such that `find_shape` gives back every layer's.

    Ends grow by a part of the name at a time, where layers of one end have several shapes.

    Args:
        shapes: name of each layer -> its shape.
    """
    ends: dict[str, Shape] = {}
    parts = 0
    while wrong := [name for name, shape in shapes.items() if find_shape(ends, name) != shape]:
        parts += 1
        alike: dict[str, dict[str, Shape]] = {_end(name, parts): {} for name in wrong}
        for name, shape in shapes.items():
            alike.get(_end(name, parts), {})[name] = shape
        for end, layers in alike.items():
            shape = _commonest(layers, parts)
            if find_shape(ends, end) != shape:
                ends[end] = shape
    return ends


def find_shape(ends: Mapping[str, Shape], name: str) -> Shape | None:
    """The shape of a layer, None if no end of its name is known."""
    end = name
    while end not in ends:
        _, dot, end = end.partition(".")
        if not dot:
            return None
    return ends[end]


def _commonest(shapes: Mapping[str, Shape], parts: int) -> Shape:
    """The shape that would take most longer ends to name, and of those the one that most layers have."""
    layers = Counter(shapes.values())
    longer = Counter(shape for _, shape in {(_end(name, parts + 1), shape) for name, shape in shapes.items()})
    return max(layers, key=lambda shape: (longer[shape], layers[shape]))


def _end(name: str, parts: int) -> str:
    return ".".join(name.split(".")[-parts:])

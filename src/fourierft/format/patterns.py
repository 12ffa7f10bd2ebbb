"""Patterns that come from a file, matched in time that grows with their length alone.

Python's `re` tries one way after the other, and a pattern of ten characters can keep it busy for hours. Here all ways
are followed at once: a pattern is turned into its positions (Glushkov's automaton), and each character of a name moves
the set of those that may come next. What a regular expression can say is written, and matched, as in `re`; what needs
more than that (looking around, back references, flags) is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fourierft.errors import CheckpointError
from fourierft.format.json_file import shown

_LONGEST, _MOST_POSITIONS, _MOST_ATOMS, _DEEPEST = 500, 512, 5000, 20
_MOST_STEPS = 2_000_000  # of all patterns of an adapter on all its layers: a second or two
_ANY = "\n"  # a character that is in no name, for the dot
_BEFORE, _END = r".*\.", "\0"  # what is fed behind a name for `$`, and no name has
_SPECIAL = frozenset(".^$*+?{}[]()|\\")
_REPEAT = re.compile(r"\{(?!\})(\d*)(,?)(\d*)\}", re.ASCII)
_PLAIN = re.compile(r"(?:\\[.-]|[\w.-])+", re.ASCII)


_Matcher = Callable[[str], tuple[bool, int]]  # name -> whether it is matched, and the steps that it took


class _Part(NamedTuple):
    """A part of a pattern: whether it matches nothing at all, and its positions at either end, as bits."""

    empty: bool
    first: int
    last: int


_NOTHING = _Part(True, 0, 0)
_TOO_MANY = f"more than {_MOST_POSITIONS} characters, repeats written out"


class FrequencyPattern:
    """`n_frequency_pattern` of a config: how many coefficients the layers of some names have.

    Semantics: n of the first key for which `re.match(rf".*\\.{key}$", name)`, else of the key that is the name; so does
    stock PEFT.

    Args:
        counts: key -> n.

    Raises: CheckpointError, if a key is no pattern, or one that is not read from a file.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = dict(counts)
        self._steps = 0
        self._matchers: list[tuple[_Matcher, int]] = []
        for key, n in counts.items():
            matcher, atoms = _matcher(key)
            self._spend(100 * atoms)
            self._matchers.append((matcher, n))

    def find(self, name: str) -> int | None:
        """n of a layer, None if no key is for it.

        Raises: CheckpointError, if all calls together took too long.
        """
        for matcher, n in self._matchers:
            found, steps = matcher(name)
            self._spend(steps)
            if found:
                return n
        return self._counts.get(name)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise CheckpointError(
                f"n_frequency_pattern has {len(self._counts):,} keys that take too long to match; use names of layers, "
                "or fewer patterns"
            )


@functools.lru_cache(maxsize=1024)
def _matcher(key: str) -> tuple[_Matcher, int]:
    """What matches a key, and how many atoms were read to make it."""
    if _PLAIN.fullmatch(key):
        signs = re.findall(r"\\.|.", key)
        return functools.partial(_ends_with, [_ANY if sign == "." else sign[-1] for sign in signs]), 1
    automaton = _Automaton(key)
    return automaton.match, automaton.atoms


def _ends_with(characters: list[str], name: str) -> tuple[bool, int]:
    """The same for a key without repeats, given by its characters."""
    start = len(name) - len(characters)
    if start < 1 or name[start - 1] != ".":
        return False, 1
    return all(k in (_ANY, c) for k, c in zip(characters, name[start:], strict=True)), 1


class _Automaton:
    """The positions of `.*\\.KEY$`."""

    def __init__(self, key: str) -> None:
        self._key, self._at = key, 0
        self._text = f"{_BEFORE}{key}$"
        self._takes: list[Callable[[str], bool]] = []  # a position: which characters it stands for
        self._follow: list[int] = []
        self.atoms = self._depth = 0
        if len(key) > _LONGEST or _END in key:
            self._refuse(f"longer than {_LONGEST} characters, or a character 0")
        self._whole = self._alternatives()
        if self._at < len(self._text):
            self._refuse("a bracket that was not opened")
        self._masks: dict[str, int] = {}
        self._ends = _END * self._text.count("$")

    def match(self, name: str) -> tuple[bool, int]:
        """Whether a name has it at its start, and in how many steps that was found."""
        active, steps = self._whole.first, 1
        if self._whole.empty:
            return True, steps
        for k, character in enumerate(name + self._ends):
            if k:
                bits, active = active, 0
                while bits:
                    low = bits & -bits
                    active |= self._follow[low.bit_length() - 1]
                    bits ^= low
                    steps += 1
            if character not in self._masks:
                self._masks[character] = sum(1 << k for k, takes in enumerate(self._takes) if takes(character))
                steps += 10 * len(self._takes)
            active &= self._masks[character]
            if active & self._whole.last:
                return True, steps
            if not active:
                break
        return False, steps

    # Reading the pattern

    def _alternatives(self) -> _Part:
        found = self._sequence()
        while self._next("|"):
            other = self._sequence()
            found = _Part(found.empty or other.empty, found.first | other.first, found.last | other.last)
        return found

    def _sequence(self) -> _Part:
        found = _NOTHING
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            found = self._join(found, self._repeated())
        return found

    def _repeated(self) -> _Part:
        start = self._at
        part = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return part
        if self._text[start] in "^$":
            self._refuse(f"a repeat of {self._text[start]}")
        self._next("?")  # as few as may be: the same names
        if self._bounds() is not None:
            self._refuse("a repeat of a repeat")
        after, (least, most) = self._at, bounds
        copies = [part]
        for _ in range(max(least, most or 1, 1) - 1):
            self._at = start
            copies.append(self._atom())
        self._at = after
        if most is None:
            self._link(copies[-1].last, copies[-1].first)
        if most == 0:
            return _NOTHING
        found = _NOTHING
        for k, copy in enumerate(copies):
            found = self._join(found, copy if k < least else copy._replace(empty=True))
        return found

    def _bounds(self) -> tuple[int, int | None] | None:
        """What a quantifier asks for, at least and at most; None if there is none."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._next(sign):
                return bounds
        found = _REPEAT.match(self._text, self._at)
        if not found:
            return None
        self._at = found.end()
        numbers = [int(digits[:6]) if digits else None for digits in (found[1], found[3])]
        least = numbers[0] or 0
        most = numbers[1] if found[2] else numbers[0]
        if most is not None and most < least:
            self._refuse("a repeat of less than nothing")
        if max(least, most or 0) > _MOST_POSITIONS:
            self._refuse(_TOO_MANY)
        return least, most

    def _atom(self) -> _Part:
        start, sign = self._at, self._text[self._at]
        self._at += 1
        self.atoms += 1
        if self.atoms > _MOST_ATOMS:
            self._refuse(_TOO_MANY)
        if sign == "(":
            return self._group()
        if sign == "$":
            return self._position(lambda character: character == _END)
        if sign == "^" and start == len(_BEFORE) and "|" not in self._key:  # behind a dot no name begins
            return self._position(lambda character: False)
        if sign in "*+?^" or _REPEAT.match(self._text, start):
            self._refuse(f"{sign} where it stands")
        if sign == "\\":
            if (self._at < len(self._text) and self._text[self._at] in "dDwWsS") or not self._is_letter():
                self._at += 1
            else:
                self._refuse(self._text[start : start + 2])
        if sign == "[":
            self._at += self._text[self._at : self._at + 1] == "^"
            self._at += self._text[self._at : self._at + 1] == "]"
            while self._at < len(self._text) and self._text[self._at] != "]":
                self._at += 1 + (self._text[self._at] == "\\")
            self._at += 1
        return self._position(self._one_of(self._text[start : self._at]))

    def _group(self) -> _Part:
        if self._next("?") and not self._next(":"):
            self._refuse("(?")
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"more than {_DEEPEST} brackets within one another")
        part = self._alternatives()
        self._depth -= 1
        if not self._next(")"):
            self._refuse("a bracket that is not closed")
        return part

    def _one_of(self, text: str) -> Callable[[str], bool]:
        """Whether a character is what `re` makes of the text of one atom."""
        if len(text) == 1 and text not in _SPECIAL:
            return lambda character: character == text
        if text.startswith("[") and any(sign in text[1:] for sign in ("[", "--", "&&", "||", "~~")):
            self._refuse("a class within a class")  # `re` warns of these
        try:
            pattern = re.compile("\\" + text if text in "{}]" else text)
        except re.error as error:
            self._refuse(str(error))
        return lambda character: character != _END and pattern.fullmatch(character) is not None

    def _is_letter(self) -> bool:
        """Whether what follows a backslash has a meaning of its own, or would have."""
        following = self._text[self._at : self._at + 1]
        return not following or following.isalnum()

    def _position(self, takes: Callable[[str], bool]) -> _Part:
        if len(self._takes) == _MOST_POSITIONS:
            self._refuse(_TOO_MANY)
        self._takes.append(takes)
        self._follow.append(0)
        bit = 1 << (len(self._takes) - 1)
        return _Part(False, bit, bit)

    def _join(self, one: _Part, other: _Part) -> _Part:
        self._link(one.last, other.first)
        return _Part(
            one.empty and other.empty,
            one.first | (other.first if one.empty else 0),
            other.last | (one.last if other.empty else 0),
        )

    def _link(self, last: int, first: int) -> None:
        while last:
            low = last & -last
            self._follow[low.bit_length() - 1] |= first
            last ^= low

    def _next(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) * found
        return found

    def _refuse(self, what: str) -> None:
        raise CheckpointError(
            f"n_frequency_pattern has the key {shown(self._key)}, a pattern that is "
            f"not allowed in a file ({what}); use names of layers, or letters, dots, "
            "classes, groups and repeats"
        )

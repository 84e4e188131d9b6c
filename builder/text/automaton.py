"""Patterns that are regular expressions, matched without ever going back: the one core below .dockerignore and ``${V%pattern}``.

A pattern is a row of steps. All places in it (of all patterns of a list at once) that the text read so far may lead to are the bits
of one number; a character of the text leads from one such set to the next by a few operations on whole numbers, and each transition
is remembered, so that the next path of the same kind costs one lookup a character. A text of n characters therefore takes n steps
whatever the pattern is, where a backtracking matcher takes 2^n of them for ``*a*a*a*a*b``. What is remembered is bounded.

The numbering: a pattern of m steps has m + 1 places, the last of them its end. A star is a place that may also be passed at once,
by an addition that carries through all stars in a row (Navarro and Raffinot, Flexible Pattern Matching in Strings, 4.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

ONE, OPTIONAL, STAR, FOLDERS, AT_START, AT_END, AT_WORD, NOT_AT_WORD = range(8)
"""Kinds of steps: one character of a set, one or none, any number, ``(.*/)?``; and those without a character: ``^ $ \\b \\B``."""

MEMORY = 16 << 20
"""Bytes, about: what an automaton remembers before it forgets all and begins anew."""
_START, _WORD, _OTHER = range(3)  # what came before, for AT_START and AT_WORD


class CharSet:
    """A set of characters: ranges with both ends, and general categories by their first letter ("L", "N")."""

    __slots__ = ("_categories", "_negated", "_ranges")

    def __init__(
        self, ranges: Iterable[tuple[str, str]] = (), *, categories: Iterable[tuple[str, bool]] = (), negated: bool = False
    ) -> None:
        """``categories``: (letter, is it the characters that are not of it)."""
        self._ranges = tuple(ranges)
        self._categories = tuple(categories)
        self._negated = negated

    def __contains__(self, char: object) -> bool:
        assert isinstance(char, str)
        found = any(low <= char <= high for low, high in self._ranges)
        if not found and self._categories:
            from unicodedata import category

            found = any((category(char)[0] == letter) is not other for letter, other in self._categories)
        return found is not self._negated

    def _key(self) -> tuple[object, ...]:
        return self._ranges, self._categories, self._negated

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharSet) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


NOT_SLASH = CharSet([("/", "/")], negated=True)
NOT_NEWLINE = CharSet([("\n", "\n")], negated=True)
EVERY = CharSet(negated=True)

Step: TypeAlias = tuple[int, str | CharSet]
"""A kind, and the set: a CharSet or a single character. (Empty for the kinds without one.)"""


class _State(dict[str, "_State"]):
    """A set of places; as a dict the states that characters lead to. Missing ones are found by the automaton."""

    __slots__ = ("automaton", "before", "ends", "places")

    def __init__(self, automaton: Automaton, places: int, before: int) -> None:
        self.automaton = automaton
        self.places = places
        self.before = before
        self.ends: tuple[int, ...] | None = None

    def __missing__(self, char: str) -> _State:
        return self.automaton._follow(self, char)


class Automaton:
    """Patterns compiled together. ``labels`` name them, ascending; else they are named by their index. Several with one label are
    alternatives. ``floating``: a match may begin anywhere, not only at the start.

    Not locked: two threads may at worst find the same transition twice.
    """

    def __init__(
        self,
        patterns: Sequence[Sequence[Step]],
        *,
        labels: Sequence[int] | None = None,
        floating: bool = False,
        memory: int = MEMORY,
    ) -> None:
        starts: list[int] = []
        ends: dict[int, int] = {}
        kinds: dict[int, list[int]] = {kind: [] for kind in range(8)}
        ones: dict[str | CharSet, list[int]] = {}
        stars: dict[CharSet, list[int]] = {}
        place = 0
        for index, steps in enumerate(patterns):
            starts.append(place)
            for kind, chars in steps:
                kinds[kind].append(place)
                if kind in (ONE, OPTIONAL):
                    ones.setdefault(chars, []).append(place)
                elif kind == STAR:
                    chars = CharSet([(chars, chars)]) if isinstance(chars, str) else chars
                    stars.setdefault(chars, []).append(place)
                place += 1
            ends[place] = index if labels is None else labels[index]
            place += 1
        size = place + 1
        self._label_at = ends
        self._ends = _bits(ends, size)
        self._size = size
        self._literals = {chars: places for chars, places in ones.items() if isinstance(chars, str)}
        self._one_sets = self._packed({chars: places for chars, places in ones.items() if isinstance(chars, CharSet)})
        self._star_sets = self._packed(stars)
        self._folders = _bits(kinds[FOLDERS], size)
        self._passed = _bits(kinds[STAR] + kinds[OPTIONAL], size) | self._folders
        self._zero_width = [_bits(kinds[kind], size) for kind in (AT_START, AT_END, AT_WORD, NOT_AT_WORD)]
        self._looks_around = any(self._zero_width)
        self._by_char: dict[str, tuple[int, int, int]] = {}
        self._states: dict[tuple[int, int], _State] = {}
        self._room = self._most = max(64, memory // (size // 8 + 400))
        self._first = self._pass(_bits(starts, size), self._passed)
        self._floating = self._first if floating else 0
        self._start = self._state(self._first, _START if self._looks_around else _OTHER)

    # ------------------------------------------------------------------------------------------ questions
    def matched(self, text: str) -> tuple[int, ...]:
        """The patterns that match all of ``text``, in ascending order."""
        state = self._start
        for char in text:
            state = state[char]
        return self._ends_of(state) if state.ends is None else state.ends

    def longest(self, text: str, start: int = 0) -> int:
        """Where the longest match that begins at ``start`` ends, or -1."""
        state, found = self._start, -1
        if state.places & self._ends:
            found = start
        for at in range(start, len(text)):
            state = state[text[at]]
            if state.places & self._ends:
                found = at + 1
            elif not state.places:
                break
        return found

    def shortest(self, text: str) -> int:
        """Where the shortest match at the start ends, or -1."""
        state = self._start
        if state.places & self._ends:
            return 0
        for at, char in enumerate(text):
            state = state[char]
            if state.places & self._ends:
                return at + 1
            if not state.places:
                break
        return -1

    def each_end(self, text: str) -> list[int]:
        """How many characters of ``text`` were read wherever a match ends, ascending; for a floating automaton."""
        state = self._start
        found = [0] if state.places & self._ends else []
        for at, char in enumerate(text):
            state = state[char]
            if state.places & self._ends:
                found.append(at + 1)
        return found

    # ------------------------------------------------------------------------------------------ transitions
    def _state(self, places: int, before: int) -> _State:
        key = (places, before)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(self, places, before)
        return state

    def _follow(self, state: _State, char: str) -> _State:
        masks = self._by_char.get(char)
        if masks is None:
            masks = self._by_char[char] = self._masks(char)
        ones, stars, folders = masks
        places, before = state.places, state.before
        if self._looks_around:
            following = _WORD if _is_word(char) else _OTHER
            places = self._look_around(places, before, following)
            before = following
        # A place of FOLDERS that is stayed at is inside of "(.*/)?": it may be left by a slash alone (that is in ``ones``).
        arrived = ((places & ones) << 1) | (places & stars)
        arrived = self._pass(arrived, self._passed) | (places & folders) | self._floating
        self._room -= 1
        if self._room < 0:
            self._forget()
        found = state[char] = self._state(arrived, before)
        return found

    def _forget(self) -> None:
        """All transitions, so that a hostile mix of patterns and paths does not take all memory."""
        for state in list(self._states.values()):
            state.clear()
        self._states = {(self._start.places, self._start.before): self._start}
        self._by_char.clear()
        self._room = self._most

    def _packed(self, table: dict[CharSet, list[int]]) -> list[tuple[CharSet, list[int], int]]:
        """Sets with their places: as a list, or as a number where there are many (one number for each rare set were n^2 bytes)."""
        many = self._size >> 8
        return [
            (chars, [], _bits(places, self._size)) if len(places) > many else (chars, places, 0) for chars, places in table.items()
        ]

    def _masks(self, char: str) -> tuple[int, int, int]:
        """The places where a step takes ``char``: those that go on by one, the stars, and the FOLDERS that stay."""
        ones = self._places(self._one_sets, char, self._literals.get(char, ()))
        if char == "/":
            ones |= self._folders
        return ones, self._places(self._star_sets, char, ()), 0 if char == "\n" else self._folders

    def _places(self, sets: list[tuple[CharSet, list[int], int]], char: str, literals: Sequence[int]) -> int:
        places = list(literals)
        many = 0
        for chars, few, bits in sets:
            if char in chars:
                places += few
                many |= bits
        return many | _bits(places, self._size) if places else many

    @staticmethod
    def _pass(places: int, passed: int) -> int:
        """``places``, and all that are reached from them over the places of ``passed`` alone."""
        return places | (((places & passed) + passed) ^ passed)

    # ------------------------------------------------------------------------------------------ the end, and what lies around
    def _ends_of(self, state: _State) -> tuple[int, ...]:
        places = state.places
        if self._looks_around:
            places = self._look_around(places, state.before, _START)
        rest = places & self._ends
        found: list[int] = []
        while rest:
            lowest = rest & -rest
            label = self._label_at[lowest.bit_length() - 1]
            if not found or found[-1] != label:
                found.append(label)
            rest ^= lowest
        state.ends = tuple(found)
        return state.ends

    def _look_around(self, places: int, before: int, following: int) -> int:
        """Pass the steps without a character that hold between ``before`` and ``following`` (_START: the end of the text)."""
        at_start, at_end, at_word, not_at_word = self._zero_width
        edge = (before == _WORD) is not (following == _WORD)
        holds = (at_word if edge else not_at_word) | (at_start if before == _START else 0) | (at_end if following == _START else 0)
        arrived = (places & holds) << 1
        return places | self._pass(arrived, self._passed | holds)


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def _bits(places: Iterable[int], size: int) -> int:
    """The number with these bits set. (By bytes: a shift and an OR for each of n bits would take n^2.)"""
    out = bytearray((size >> 3) + 1)
    for place in places:
        out[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(out, "little")

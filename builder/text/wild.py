"""The patterns of a list that need an automaton, in groups, so that a path meets only those that may match it.

A few are one automaton. Where there are many, those that begin or end with plain text (``src/*/x.o``, ``**/*_test.go``) are grouped
by it, and the automaton of a group is made when a path begins or ends so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TypeAlias

from builder.errors import UsageError
from builder.text.automaton import MEMORY, ONE, Automaton, Step
from builder.text.chars import replace_invalid
from builder.text.literals import Hits, LiteralTable

_FEW = 64
_MOST_STEPS = 5_000_000

Wild: TypeAlias = tuple[int, bool, Sequence[Sequence[Step]]]
"""The index of a pattern, has it a ``!``, and its alternatives."""


class WildFilter:
    """UsageError where the patterns together are more than can be held."""

    __slots__ = ("_automata", "_heads", "_patterns", "_rest", "_tails")

    def __init__(self, patterns: Sequence[Wild]) -> None:
        if sum(len(steps) for _, _, alternatives in patterns for steps in alternatives) > _MOST_STEPS:
            raise UsageError(f"too many patterns with wildcards: together they are longer than {_MOST_STEPS} characters")
        self._patterns = {index: alternatives for index, _, alternatives in patterns}
        self._rest: tuple[list[int], list[int]] = ([], [])
        self._heads, self._tails = LiteralTable(), LiteralTable()
        self._automata: dict[int, tuple[Automaton | None, Automaton | None]] = {}
        for index, exclusion, alternatives in patterns:
            head = tail = ""
            if len(patterns) > _FEW and len(alternatives) == 1:
                head, tail = _plain(alternatives[0]), _plain(reversed(alternatives[0]))[::-1]
            if head or tail:
                table, text = (self._heads, head) if len(head) > len(tail) else (self._tails, tail)
                table.add(text, index, exclusion)
            else:
                self._rest[exclusion].append(index)

    def find(self, path: str, out: list[Hits]) -> None:
        """Add the patterns that match all of ``path``."""
        text = replace_invalid(path)
        for group in (self._rest, *self._heads.beginning(text), *self._tails.ending(text)):
            plain, exceptions = self._automata.get(id(group)) or self._compile(group)
            found = (plain.matched(text) if plain else (), exceptions.matched(text) if exceptions else ())
            if found[0] or found[1]:
                out.append(found)

    def _compile(self, group: Hits) -> tuple[Automaton | None, Automaton | None]:
        memory = MEMORY if group is self._rest else MEMORY >> 6
        pair = self._automata[id(group)] = (self._automaton(group[0], memory), self._automaton(group[1], memory))
        return pair

    def _automaton(self, indexes: Sequence[int], memory: int) -> Automaton | None:
        if not indexes:
            return None
        each = [(i, steps) for i in indexes for steps in self._patterns[i]]
        return Automaton([steps for _, steps in each], labels=[i for i, _ in each], memory=memory)


def _plain(steps: Iterable[Step]) -> str:
    """The characters that come before any wildcard."""
    return "".join(chars for _, chars in takewhile(lambda step: step[0] == ONE, steps) if isinstance(chars, str))

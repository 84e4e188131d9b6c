"""Many texts, each with the patterns that are found by it: is a given text one of them, or does it begin or end with some?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

Hits: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""Ascending indexes of patterns, those without ``!`` and those with."""


class LiteralTable:
    """A lookup costs as much as there are different lengths of texts, however many texts there are."""

    __slots__ = ("_lengths", "found")

    def __init__(self) -> None:
        self.found: dict[str, tuple[list[int], list[int]]] = {}
        self._lengths: list[int] | None = None

    def add(self, text: str, index: int, exclusion: bool) -> None:
        """Indexes have to ascend."""
        hits = self.found.get(text)
        if hits is None:
            hits = self.found[text] = ([], [])
            self._lengths = None
        hits[exclusion].append(index)

    def beginning(self, text: str) -> Iterator[Hits]:
        """Of each text that ``text`` begins with."""
        for n in self._sizes(len(text)):
            hits = self.found.get(text[:n])
            if hits is not None:
                yield hits

    def ending(self, text: str) -> Iterator[Hits]:
        """Of each text that ``text`` ends with."""
        end = len(text)
        for n in self._sizes(end):
            hits = self.found.get(text[end - n :])
            if hits is not None:
                yield hits

    def _sizes(self, most: int) -> Iterator[int]:
        if self._lengths is None:
            self._lengths = sorted({len(text) for text in self.found})
        for n in self._lengths:
            if n > most:
                return
            yield n

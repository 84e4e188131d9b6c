"""Path patterns of ``.dockerignore`` and ``--exclude``, with moby/patternmatcher's semantics (which are not gitignore's).

Patterns are anchored at the root. ``*`` and ``?`` stay within a path component, ``**`` crosses components, ``[...]`` is a
character class, a backslash takes the next character literally, a leading ``!`` takes back what earlier patterns
matched. A pattern that matches a folder matches all below it. The last pattern that has something to say wins.

moby tries every pattern on every path. Here a path finds the patterns that match it: plain names and those with ``**`` at one
end only in dictionaries, all others by one automaton. So patterns that have nothing to do with a path cost it nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from builder.errors import UsageError
from builder.text.chars import SPACE, byte_chars, replace_invalid
from builder.text.glob import BadPatternError as BadPatternError
from builder.text.glob import check
from builder.text.literals import Hits, LiteralTable
from builder.text.paths import clean, folder
from builder.values import dataclass

if TYPE_CHECKING:
    from builder.text.wild import WildFilter

_REGEX_ONLY = frozenset(".+()$")  # special to a regular expression, ordinary in a pattern; see goregex for | { }
_MOST_TURNS = 50_000_000

MatchInfo: TypeAlias = Hits | None
"""The patterns that matched a folder (or one above it): their indexes. None: nothing is known."""
_NOTHING: Hits = ((), ())


@dataclass(frozen=True, slots=True)
class Pattern:
    """One cleaned pattern, without its ``!``."""

    text: str
    exclusion: bool


def read_pattern(text: str, where: str = "") -> Pattern:
    """A pattern that is not blank; BadPatternError, with ``where`` in front."""
    text = clean(text)
    exclusion = text.startswith("!")
    if exclusion:
        text = text[1:]
        if not text:
            raise BadPatternError("!", where, 'illegal exclusion pattern: "!"')
    check(text, where)
    return Pattern(text, exclusion)


class PatternMatcher:
    """An ordered list of patterns. Paths are relative, separated by ``/``. Safe for threads.

    Raises ``BadPatternError`` for what moby refuses at once. What it finds malformed when it first tries the pattern raises it
    then. Blank patterns are passed over. ``kind`` ("include", "exclude") is for the errors, in BuildKit's words. ``checkpoint`` is
    called while many patterns are compiled; it may raise.
    """

    __slots__ = (
        "_checkpoint", "_exact", "_filter", "_heads", "_kind", "_malformed", "_tails", "_turns", "_wild", "exclusions", "patterns",
    )  # fmt: skip

    def __init__(self, patterns: Iterable[str], kind: str = "", *, checkpoint: Callable[[], None] = lambda: None) -> None:
        where = f"invalid {kind}patterns: " if kind else ""
        self.patterns: tuple[Pattern, ...] = tuple(read_pattern(text, where) for raw in patterns if (text := raw.strip(SPACE)))
        self._kind = kind
        self._checkpoint = checkpoint
        self.exclusions = any(pattern.exclusion for pattern in self.patterns)
        exact, heads, tails = LiteralTable(), LiteralTable(), LiteralTable()
        wild: list[int] = []
        for i, pattern in enumerate(self.patterns):
            text, exclusion = pattern.text, pattern.exclusion
            scan = text.removeprefix("\ufeff")
            if not _is_wild(scan):
                exact.add(text, i, exclusion)
            elif text.startswith("**") and not _is_wild(text[2:]):
                tails.add(byte_chars(text[2:]), i, exclusion)
            elif text.endswith("**") and not _is_wild(scan[:-2]):
                heads.add(byte_chars(text[:-2]), i, exclusion)
            else:
                wild.append(i)
        self._exact, self._heads, self._tails = exact.found, heads, tails
        self._wild = wild
        self._filter: WildFilter | None = None
        self._malformed: Hits = _NOTHING
        self._turns = 0

    # ------------------------------------------------------------------------------------------ questions
    def matches_or_parent_matches(self, path: str) -> bool:
        """Whether ``path``, or a folder above it, is matched in the end."""
        return self._decide(self._sources(path, parents=True))[0]

    def matches_using_parent_results(self, path: str, parent: MatchInfo = None) -> tuple[bool, MatchInfo]:
        """The same for a walk from the top down: hand in what was returned for the folder that ``path`` is in.

        (Not quite the same: a pattern that was not needed for the folder, because an earlier one had matched it, counts as one
        that did not match it. So it is in moby.)
        """
        if parent is None:
            return self._decide(self._sources(path, parents=True))
        sources = self._sources(path, parents=False)
        if not sources:
            return self._last_word(parent), parent
        if parent != _NOTHING:
            sources.append(parent)
        matched, (plain, exceptions) = self._decide(sources)
        if parent == _NOTHING:
            return matched, (plain, exceptions)
        return matched, (_union(parent[0], plain), _union(parent[1], exceptions))

    @staticmethod
    def _last_word(hits: Hits) -> bool:
        """Where all hits count, the last one decides."""
        plain, exceptions = hits
        return bool(plain) and (not exceptions or plain[-1] > exceptions[-1])

    def _decide(self, sources: list[Hits]) -> tuple[bool, Hits]:
        """Go through the patterns that match: one without ``!`` counts while the path is not matched, one with ``!`` while it is.

        So they take turns, and there are no more steps here than turns. Returns those that counted.
        """
        counted: tuple[list[int], list[int]] = ([], [])
        matched, at = False, -1
        while True:
            following = -1
            for source in sources:
                hits = source[matched]
                k = bisect_right(hits, at)
                if k < len(hits) and (following < 0 or hits[k] < following):
                    following = hits[k]
            if following < 0:
                break
            at = following
            if at in self._malformed[matched]:
                where = f"failed to match {self._kind}patterns: " if self._kind else ""
                raise BadPatternError(self.patterns[at].text, where)
            counted[matched].append(at)
            matched = not matched
        turns = len(counted[0]) + len(counted[1])
        if turns > 2:
            self._turns += turns
            if self._turns > _MOST_TURNS:
                raise UsageError(
                    "patterns and their exceptions (!) take turns on the same paths too often",
                    hint="leave out patterns that later ones take back",
                )
        return matched, (tuple(counted[0]), tuple(counted[1]))

    # ------------------------------------------------------------------------------------------ which patterns match
    def _sources(self, path: str, *, parents: bool) -> list[Hits]:
        """The hits of a path (and of the folders above it) in groups. Malformed patterns are in it as if they matched."""
        out: list[Hits] = []
        self._find(path, out)
        if parents and "/" in path:
            for above in _parents(path):
                self._find(above, out)
        if self._malformed != _NOTHING:
            out.append(self._malformed)
        return out

    def _find(self, path: str, out: list[Hits]) -> None:
        if path in self._exact:
            out.append(self._exact[path])
        if self._heads.found or self._tails.found:
            rooted = "/" + byte_chars(path)
            out += self._heads.beginning(rooted[1:])
            out += self._tails.ending(rooted)  # **/foo matches foo
        if self._wild:
            if self._filter is None:
                self._filter = self._compiled()
            self._filter.find(path, out)

    def _compiled(self) -> WildFilter:
        """Made when the first path is asked for: a cached build may ask for none."""
        from builder.text.goregex import parse
        from builder.text.wild import Wild, WildFilter

        read: list[Wild] = []
        malformed: tuple[list[int], list[int]] = ([], [])
        for i in self._wild:
            self._checkpoint()
            pattern = self.patterns[i]
            try:
                read.append((i, pattern.exclusion, parse(_go_regex(pattern.text.removeprefix("\ufeff")))))
            except ValueError:
                malformed[pattern.exclusion].append(i)
        if malformed != ([], []):
            self._malformed = malformed
        return WildFilter(read)


def _union(some: Sequence[int], more: Sequence[int]) -> Sequence[int]:
    return sorted({*some, *more}) if some and more else some or more


def _parents(path: str) -> list[str]:
    """The folders above ``path``, topmost first."""
    above = folder(path)
    if above == ".":
        return []
    parts = above.split("/")
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _is_wild(text: str) -> bool:
    return "*" in text or "?" in text or "[" in text or "]" in text or "\\" in text


def _go_regex(pattern: str) -> str:
    """The regular expression that patternmatcher makes of a pattern, for Go's regexp package.

    Kept in that form because its accidents are visible: a wildcard inside a class is replaced too, a backslash before a
    letter is handed on and means what it means there, one at the end takes the ``$``.
    """
    pattern = replace_invalid(pattern)
    out: list[str] = ["^"]
    pos, end = 0, len(pattern)
    while pos < end:
        ch = pattern[pos]
        pos += 1
        if ch == "*" and pattern.startswith("*", pos):
            pos += 1
            pos += pattern.startswith("/", pos)
            out.append("(.*/)?" if pos < end else ".*")
        elif ch == "*":
            out.append("[^/]*")
        elif ch == "?":
            out.append("[^/]")
        elif ch in _REGEX_ONLY:
            out.append("\\" + ch)
        elif ch == "\\":
            out.append(pattern[pos - 1 : pos + 1])
            pos += 1
        else:
            out.append(ch)
    return "".join(out) + "$"

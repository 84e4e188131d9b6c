"""Path patterns of ``.dockerignore`` and ``--exclude``, with moby/patternmatcher's semantics (which are not gitignore's).

Patterns are anchored at the root. ``*`` and ``?`` stay within a path component, ``**`` crosses components, ``[...]`` is a
character class, a backslash takes the next character literally, a leading ``!`` takes back what earlier patterns
matched. A pattern that matches a folder matches all below it. The last pattern that has something to say wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from posixpath import normpath
from typing import TypeAlias

from builder.errors import UsageError
from builder.values import dataclass

Match: TypeAlias = Callable[[str], bool]
MatchInfo: TypeAlias = tuple[bool, ...]
"""For each pattern whether it matched a folder (or one above it); empty: nothing is known."""

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_REGEX_ONLY = frozenset(".+()|{}$")  # special to a regular expression, ordinary in a pattern


class BadPatternError(UsageError, ValueError):
    """A pattern that is malformed."""

    def __init__(self, message: str = "syntax error in pattern") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One cleaned pattern, without its ``!``. ``match`` tests one path (not its parents); ``depth`` counts components."""

    text: str
    exclusion: bool
    match: Match
    depth: int


class PatternMatcher:
    """An ordered list of patterns, compiled once. Paths are relative, separated by ``/``. Safe for threads.

    Raises ``BadPatternError``. Blank patterns are passed over.
    """

    __slots__ = ("exclusions", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        cleaned = (clean(text) for raw in patterns if (text := raw.strip(_SPACE)))
        self.patterns: tuple[Pattern, ...] = tuple(map(_compile, cleaned))
        self.exclusions = any(pattern.exclusion for pattern in self.patterns)

    def matches_or_parent_matches(self, path: str) -> bool:
        """Whether ``path``, or a folder above it, is matched in the end."""
        matched = False
        parents: list[str] | None = None
        for pattern in self.patterns:
            if pattern.exclusion is not matched:
                continue  # could change nothing
            hit = pattern.match(path)
            if not hit:
                if parents is None:
                    parents = _parents(path)
                hit = any(map(pattern.match, parents))
            if hit:
                matched = not pattern.exclusion
        return matched

    def matches_using_parent_results(self, path: str, parent: MatchInfo = ()) -> tuple[bool, MatchInfo]:
        """The same for a walk from the top down: hand in what was returned for the folder that ``path`` is in."""
        if not parent:
            return self._matches_at_top(path)
        if len(parent) != len(self.patterns):
            raise ValueError("wrong number of values in parentMatched")
        matched = False
        info: list[bool] = []
        for pattern, parent_hit in zip(self.patterns, parent, strict=True):
            hit = parent_hit or (pattern.exclusion is matched and pattern.match(path))
            info.append(hit)
            if hit:
                matched = not pattern.exclusion
        return matched, tuple(info)

    def _matches_at_top(self, path: str) -> tuple[bool, MatchInfo]:
        matched = False
        parents = _parents(path)
        info: list[bool] = []
        for pattern in self.patterns:
            hit = pattern.exclusion is matched and (pattern.match(path) or any(map(pattern.match, parents)))
            info.append(hit)
            if hit:
                matched = not pattern.exclusion
        return matched, tuple(info)

    def matches(self, path: str) -> bool:
        """moby's first rule, kept for those who used it: of the parents only the one as deep as the pattern is tested."""
        matched = False
        parents = _parents(path)
        for pattern in self.patterns:
            if pattern.exclusion is not matched:
                continue
            hit = pattern.match(path)
            if not hit and pattern.depth <= len(parents):
                hit = pattern.match(parents[pattern.depth - 1])
            if hit:
                matched = not pattern.exclusion
        return matched


def clean(path: str) -> str:
    """Go's ``filepath.Clean``: the shortest lexically equal path; ``.`` for an empty one."""
    if path.startswith("//"):  # POSIX lets two slashes mean something; Go does not
        path = "/" + path.lstrip("/")
    return normpath(path)


def _parents(path: str) -> list[str]:
    """The folders above ``path``, topmost first."""
    folder = clean(path[: path.rfind("/") + 1])
    if folder == ".":
        return []
    parts = folder.split("/")
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _compile(text: str) -> Pattern:
    exclusion = text.startswith("!")
    if exclusion:
        text = text[1:]
        if not text:
            raise BadPatternError('illegal exclusion pattern: "!"')
    _check_syntax(text)
    return Pattern(text, exclusion, _matcher(text), text.count("/") + 1)


def _check_syntax(pattern: str) -> None:
    """What Go's ``filepath.Match`` rejects: a class that is empty or does not end, an escape of nothing."""
    pos, end = 0, len(pattern)
    while pos < end:
        ch = pattern[pos]
        pos += 1
        if ch == "\\":
            if pos == end:
                raise BadPatternError
            pos += 1
        elif ch == "[":
            pos = _check_class(pattern, pos + pattern.startswith("^", pos))


def _check_class(pattern: str, pos: int) -> int:
    start = pos
    while pos == start or not pattern.startswith("]", pos):
        pos = _check_class_char(pattern, pos)
        if pattern.startswith("-", pos):
            pos = _check_class_char(pattern, pos + 1)
    return pos + 1


def _check_class_char(pattern: str, pos: int) -> int:
    if pattern[pos : pos + 1] in ("", "-", "]"):
        raise BadPatternError
    pos += 1 + (pattern[pos] == "\\")
    if pos >= len(pattern):  # also where the class has no end
        raise BadPatternError
    return pos


def _matcher(pattern: str) -> Match:
    """The test of one path: a comparison, a prefix, a suffix, or a regular expression for the rest."""
    scan = pattern.removeprefix("\ufeff")
    if not any(ch in scan for ch in "*?[]\\"):
        return pattern.__eq__
    if pattern.startswith("**") and not any(ch in scan[2:] for ch in "*?[]\\"):
        return _suffix_matcher(pattern[2:])
    if pattern.endswith("**") and not any(ch in scan[:-2] for ch in "*?[]\\"):
        prefix = pattern[:-2]
        return lambda path: path.startswith(prefix)
    import re  # not needed by most ignore files

    from builder.text.goregex import to_python

    try:
        return _truth(re.compile(to_python(_go_regex(scan)) + r"\Z", re.ASCII).match)
    except (ValueError, re.error, RecursionError, OverflowError):
        raise BadPatternError from None


def _suffix_matcher(suffix: str) -> Match:
    if not suffix.startswith("/"):
        return lambda path: path.endswith(suffix)
    bare = suffix[1:]
    return lambda path: path.endswith(suffix) or path == bare


def _truth(match: Callable[[str], object]) -> Match:
    return lambda path: match(path) is not None


def _go_regex(pattern: str) -> str:
    """The regular expression that patternmatcher makes of a pattern, for Go's regexp package, without ``^`` and ``$``.

    Kept in that form because its accidents are visible: a wildcard inside a class is replaced too, a backslash before a
    letter is handed on and means what it means there.
    """
    out: list[str] = []
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
    return "".join(out)

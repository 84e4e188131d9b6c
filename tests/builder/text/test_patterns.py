"""Patterns and ignore files against ``testdata/ignore``."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.text.patterns import BadPatternError, MatchInfo, PatternMatcher, clean
from frontend.dockerignore import candidate_names, read_patterns
from frontend.errors import FrontendError

TABLES = os.path.join(os.path.dirname(__file__), "..", "..", "..", "testdata", "ignore")


def lines_of(name: str) -> list[str]:
    with open(os.path.join(TABLES, name), encoding="utf-8") as f:
        return [line.rstrip("\n") for line in f][1:]


def matching_rows() -> list[tuple[tuple[str, ...], str, bool]]:
    rows: list[tuple[tuple[str, ...], str, bool]] = []
    patterns: tuple[str, ...] = ()
    for line in lines_of("matching.txt"):
        if line.startswith("["):
            patterns = tuple(line[1:-1].split(" "))
        elif line:
            rows.append((patterns, line[2:], line[0] == "+"))
    return rows


def walk(matcher: PatternMatcher, path: str) -> bool:
    """Match ``path`` as a walk from the root does it."""
    info: MatchInfo = ()
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        matched, info = matcher.matches_using_parent_results("/".join(parts[:depth]), info)
    return matched


@pytest.mark.parametrize(("patterns", "path", "expected"), matching_rows())
def test_match(patterns: tuple[str, ...], path: str, expected: bool) -> None:
    matcher = PatternMatcher(patterns)
    assert matcher.matches_or_parent_matches(path) is expected
    assert matcher.matches_using_parent_results(path)[0] is expected
    assert walk(matcher, path) is expected


@pytest.mark.parametrize("row", [line for line in lines_of("files.txt") if line])
def test_line_of_an_ignore_file(row: str) -> None:
    line, _, expected = row.partition(" =>")
    assert read_patterns(f"x\n{line}\r\ny") == ("x", *([expected[1:]] if expected.strip() else []), "y")


def test_byte_order_mark_is_dropped() -> None:
    assert read_patterns("\ufeff#a\n\ufeffb\n") == ("\ufeffb",)


def test_line_too_long_is_an_error() -> None:
    with pytest.raises(FrontendError, match="token too long"):
        read_patterns("a" * 65536)


def test_ignore_file_of_a_dockerfile_comes_first() -> None:
    assert candidate_names("sub/Dockerfile.x") == ("sub/Dockerfile.x.dockerignore", ".dockerignore")


@pytest.mark.parametrize(
    "pattern", ["[", "[]", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "[^bc", "a[", "a\\", "[a", "[a\\", "[z-a]", "\\q"]
)
def test_malformed(pattern: str) -> None:
    with pytest.raises(BadPatternError, match="syntax error in pattern"):
        PatternMatcher(["ok", pattern])


def test_exclusion_of_nothing_is_an_error() -> None:
    with pytest.raises(BadPatternError, match='illegal exclusion pattern: "!"'):
        PatternMatcher(["a", " ! "])


def test_blank_patterns_are_passed_over() -> None:
    assert [pattern.text for pattern in PatternMatcher(["", " ", "a ", "./b/", "!c"]).patterns] == ["a", "b", "c"]


def test_exclusions_are_told() -> None:
    assert PatternMatcher(["a", "!b"]).exclusions
    assert not PatternMatcher(["a"]).exclusions


def test_first_rule_looks_at_one_parent_only() -> None:
    assert PatternMatcher(["*"]).matches("a/b/c")
    assert not PatternMatcher(["**/b"]).matches("a/x/b/c")
    assert PatternMatcher(["**/b"]).matches_or_parent_matches("a/x/b/c")


def test_results_for_other_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="wrong number"):
        PatternMatcher(["a"]).matches_using_parent_results("a", (True, False))


@pytest.mark.parametrize(("path", "expected"), [("", "."), ("//a//b/", "/a/b"), ("/..", "/"), ("a/../..", ".."), ("./", ".")])
def test_clean(path: str, expected: str) -> None:
    assert clean(path) == expected


PATTERNS = st.text(alphabet="ab*?[]^-!\\/.é{", min_size=1, max_size=8)
PATHS = st.lists(st.text(alphabet="abé.*[{", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@given(st.lists(PATTERNS, max_size=4), PATHS.filter(lambda path: clean(path) == path and not path.startswith("..")))
def test_a_walk_agrees_with_a_single_test(patterns: list[str], path: str) -> None:
    try:
        matcher = PatternMatcher(patterns)
    except BadPatternError:
        return
    assert walk(matcher, path) is matcher.matches_or_parent_matches(path)


@given(st.text(max_size=200))
def test_any_ignore_file_is_read(text: str) -> None:
    for pattern in read_patterns(text):
        assert pattern == pattern.strip("\n")

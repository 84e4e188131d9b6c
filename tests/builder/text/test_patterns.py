"""Patterns and ignore files against ``testdata/ignore``."""

from __future__ import annotations

import contextlib
import os
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import UsageError
from builder.sources.local import IgnoreFilter
from builder.text import patterns as module
from builder.text.patterns import BadPatternError, MatchInfo, PatternMatcher
from builder.text.quoting import quote
from frontend.dockerignore import read_patterns
from frontend.errors import FrontendError
from tests.support.work import lines_run

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
    info: MatchInfo = None
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
    with pytest.raises(FrontendError, match=r"^x\.dockerignore:2: .*token too long"):
        read_patterns("a\n" + "a" * 65536, "x.dockerignore")


@pytest.mark.parametrize(
    ("line", "error"),
    [("src/[a", 'pattern "src/[a": syntax error in pattern'), (" ! ", 'illegal exclusion pattern: "!"')],
)
def test_an_error_names_file_line_and_pattern(line: str, error: str) -> None:
    with pytest.raises(FrontendError) as failure:
        read_patterns(f"# comment\n\nok\n{line}\n")
    assert str(failure.value) == f".dockerignore:4: {error}"


@pytest.mark.parametrize("pattern", ["[", "[]", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "[^bc", "*a[", "a\\", "[a", "[a\\"])
def test_malformed(pattern: str) -> None:
    with pytest.raises(BadPatternError) as error:
        PatternMatcher(["ok", pattern], "exclude")
    assert str(error.value) == f"invalid excludepatterns: pattern {quote(pattern)}: syntax error in pattern"


@pytest.mark.parametrize("pattern", ["[z-a]", "\\q", "x*[", "x*\\x4", "{2}*{2}", "a*{2,1}", "a*b{1001}", "\\pX", "[[:x:]*]"])
def test_what_only_the_regular_expression_shows_to_be_malformed_is_an_error_when_it_is_tried(pattern: str) -> None:
    matcher = PatternMatcher(["a/b", pattern, "c"], "exclude")
    assert matcher.matches_or_parent_matches("a/b")
    with pytest.raises(BadPatternError) as error:
        matcher.matches_or_parent_matches("c")
    assert str(error.value) == f"failed to match excludepatterns: pattern {quote(pattern)}: syntax error in pattern"


def test_an_exception_is_not_tried_where_nothing_was_matched() -> None:
    matcher = PatternMatcher(["a", "!\\q"])
    assert not matcher.matches_or_parent_matches("b")
    with pytest.raises(BadPatternError):
        matcher.matches_or_parent_matches("a")


def test_exclusion_of_nothing_is_an_error() -> None:
    with pytest.raises(BadPatternError, match='illegal exclusion pattern: "!"'):
        PatternMatcher(["a", " ! "])


def test_blank_patterns_are_passed_over() -> None:
    assert [pattern.text for pattern in PatternMatcher(["", " ", "a ", "./b/", "!c"]).patterns] == ["a", "b", "c"]


def test_exclusions_are_told() -> None:
    assert PatternMatcher(["a", "!b"]).exclusions
    assert not PatternMatcher(["a"]).exclusions


# ------------------------------------------------------------------------------------------------ many lines
def test_the_last_line_of_many_decides() -> None:
    """More wild patterns than one automaton takes, plain ones between them, exceptions to all kinds."""
    filler = [line for i in range(200) for line in (f"x{i}/*.tmp", f"*_{i}.o", f"name{i}", f"**/deep{i}", f"tree{i}/**", f"*m{i}*")]
    lines = [*filler, "!x7/keep.tmp", "!*_8.o", "!**/deep9", "!tree3/**", "!*m11*", "*m111*"]
    matcher = PatternMatcher(lines)
    found = {path: matcher.matches_or_parent_matches(path) for path in (
        "x7/a.tmp", "x7/keep.tmp", "a_7.o", "a_8.o", "name5", "name5/b", "names", "a/deep4/b", "deep9", "tree2/a", "tree3/a",
        "am10", "am11", "am111",
    )}  # fmt: skip
    assert [path for path, out in found.items() if out] == [
        "x7/a.tmp", "a_7.o", "name5", "name5/b", "a/deep4/b", "tree2/a", "am10", "am111",
    ]  # fmt: skip
    assert {path: walk(matcher, path) for path in found} == found


def test_lines_that_have_nothing_to_do_with_a_path_are_no_work() -> None:
    def work(count: int) -> int:
        lines = [line for i in range(count) for line in (f"a{i}/b", f"**/c{i}", f"d{i}/**", f"e{i}*", f"*/f{i}", f"!g{i}")]
        matcher = PatternMatcher(lines)
        assert not matcher.matches_or_parent_matches("src/main.c")
        return lines_run(lambda: matcher.matches_using_parent_results("src/other.c"), 10_000)

    assert work(4000) < work(40) + 300  # texts of a few lengths more; not of a hundred times the patterns


def test_turns_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TURNS", 1000)
    matcher = PatternMatcher(["*", "!*"] * 40)
    with pytest.raises(UsageError, match="take turns on the same paths too often"):
        for i in range(100):
            matcher.matches_or_parent_matches(f"a{i}")


def test_an_exception_opens_the_folders_on_its_way_only() -> None:
    opened = IgnoreFilter(["*", "!a/b/c", "!d/**"])
    assert [path for path in ("a", "a/b", "a/b/c", "d", "e", "ab", "a/x") if opened.may_contain(path)] == ["a", "a/b", "a/b/c", "d"]
    assert IgnoreFilter(["*", "!a*"]).may_contain("z")


# ------------------------------------------------------------------------------------------------ against the obvious
COMPONENT = (
    st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]"]), min_size=1, max_size=3)
    .map("".join)
    .filter(lambda text: "**" not in text)
)
PATTERN = st.lists(st.one_of(COMPONENT, st.just("**")), min_size=1, max_size=4).map("/".join)
LINES = st.lists(st.tuples(st.sampled_from(["", "", "!"]), PATTERN).map("".join), max_size=6)
PATH = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


def matches(pattern: list[str], names: list[str]) -> bool:
    """Component by component, by trying everything. At the end ``**`` takes one name at least, elsewhere any number."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        least = 1 if len(pattern) == 1 else 0
        return any(matches(pattern[1:], names[n:]) for n in range(least, len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and matches(pattern[1:], names[1:])


class Moby:
    """patternmatcher's loops, for a list of patterns: each is tried on each path."""

    def __init__(self, lines: list[str]) -> None:
        self.patterns = [(line.startswith("!"), line.removeprefix("!").split("/")) for line in lines]

    def single(self, path: str) -> bool:
        names = path.split("/")
        matched = False
        for exclusion, pattern in self.patterns:
            if exclusion is matched and any(matches(pattern, names[: n + 1]) for n in range(len(names))):
                matched = not exclusion
        return matched

    def walk(self, path: str) -> bool:
        names = path.split("/")
        parent = [False] * len(self.patterns)
        matched = False
        for depth in range(1, len(names) + 1):
            matched = False
            for i, (exclusion, pattern) in enumerate(self.patterns):
                parent[i] = parent[i] or (exclusion is matched and matches(pattern, names[:depth]))
                if parent[i]:
                    matched = not exclusion
        return matched


@given(LINES, PATH)
def test_it_is_what_trying_everything_finds(lines: list[str], path: str) -> None:
    matcher = PatternMatcher(lines)
    assert matcher.matches_or_parent_matches(path) is Moby(lines).single(path)
    assert walk(matcher, path) is Moby(lines).walk(path)


def test_a_walk_forgets_what_was_not_needed_above() -> None:
    """moby's accident: the second "a" was not tried on the folder, and does not match what is in it."""
    matcher = PatternMatcher(["a", "!a/b", "a"])
    assert matcher.matches_or_parent_matches("a/b")
    assert not walk(matcher, "a/b")


@given(st.lists(st.text("ab*?[]^-!\\/.é{}|(2,", min_size=1, max_size=12), max_size=4), st.text("ab/é.", min_size=1, max_size=60))
def test_any_pattern_is_read_or_refused_and_work_is_bounded(patterns: list[str], path: str) -> None:
    length = sum(map(len, patterns))

    def match() -> None:
        with contextlib.suppress(BadPatternError):
            PatternMatcher(patterns).matches_or_parent_matches(path)

    lines_run(match, 3000 + 300 * (length + 10) + 60 * (len(path) + 1) * (1 + path.count("/")) * (10 + len(patterns)))


def test_stars_without_end_are_no_work_without_end() -> None:
    for pattern in ("*a" * 30 + "b", "**/*a" * 30 + "b", "*[a-b]" * 30 + "b", "**a" * 30 + "**b"):
        matcher = PatternMatcher([pattern])
        assert not matcher.matches_or_parent_matches("a" * 200)
        again = PatternMatcher([pattern])
        lines_run(lambda again=again: again.matches_or_parent_matches("a" * 200), 20_000)  # type: ignore[misc]


@given(st.text(max_size=200))
def test_any_ignore_file_is_read(text: str) -> None:
    with contextlib.suppress(FrontendError):
        for pattern in read_patterns(text):
            assert pattern == pattern.strip("\n")


def test_patterns_that_are_compiled_for_long_can_be_called_off() -> None:
    left = 3

    def checkpoint() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    matcher = PatternMatcher([f"a{i}*b" for i in range(100)], checkpoint=checkpoint)
    with pytest.raises(KeyboardInterrupt):
        matcher.matches_or_parent_matches("a1b")
    left = 100
    assert matcher.matches_or_parent_matches("a1b")

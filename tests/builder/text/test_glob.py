"""Go's path.Match: a table, a slow reference, and how much work it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.text.glob import BadPatternError, Glob, check, contains_wildcards, split_wildcards
from tests.support.work import lines_run


@pytest.mark.parametrize(
    ("pattern", "name", "match"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "a/c/b", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("a?b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[x\\-]", "-", True),
        ("[\\-x]", "z", False),
        ("[z-a]", "m", False),
        ("**", "a/b", False),
        ("*x", "xxx", True),
        ("[a-b-c]", "-", None),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[a-", "a", None),
        ("[", "a", None),
        ("a[", "ab", None),
        ("\\", "a", None),
        ("[^]", "a", None),
        # Go's accidents: a class matches a slash; the first place found is kept; bytes are skipped, not characters.
        ("a[^b]c", "a/c", True),
        ("*[^x]*b", "p/qb", False),
        ("*??", "€", True),
        ("[^a]", "\udca9", True),
        ("[\ufffd]", "\udca9", True),
        ("[\udca9]", "\udca9", None),
        ("\udca9*", "\udca9x", True),
    ],
)
def test_go_match(pattern: str, name: str, match: bool | None) -> None:
    if match is None:
        with pytest.raises(BadPatternError):
            Glob(pattern)
    else:
        assert Glob(pattern).match(name) is match


def test_an_error_names_the_pattern() -> None:
    with pytest.raises(BadPatternError, match=r'^pattern "a\[b\\"": syntax error in pattern$'):
        Glob('a[b"')


def test_a_pattern_is_checked_as_far_as_go_reads_it() -> None:
    """filepath.Match(pattern, ".") gives up at the first chunk that doesn't match."""
    check("a*[")
    for bad in ("*[", ".*[", "a[", "[]a]*b"):
        with pytest.raises(BadPatternError):
            check(bad)


@given(st.text("ab*?[]^-\\/☺\udc80", max_size=12), st.text("ab*/☺-", max_size=8))
def test_any_pattern_is_read_or_refused(pattern: str, name: str) -> None:
    try:
        Glob(pattern).match(name)
    except BadPatternError:
        assert contains_wildcards(pattern) or "\\" in pattern


@given(st.text("ab*?[\\/☺\ud800", max_size=12))
def test_an_escaped_name_matches_itself(name: str) -> None:
    escaped = "".join("\\" + c for c in name)
    assert Glob(escaped).match(name)
    assert not contains_wildcards(escaped)


def test_split_wildcards() -> None:
    assert [split_wildcards(p) for p in ("/a/b", "/*", "/a/b*/c", "/a\\*/b", "/")] == [
        ("/a/b", ""),
        ("/", "*"),
        ("/a", "b*/c"),
        ("/a\\*/b", ""),
        ("/", ""),
    ]


# ------------------------------------------------------------------------------------------------ against the obvious
TOKENS = {"a": "a", "b": "b", "é": "é", "/": "/", "\\*": "*", "?": "abé*-", "[ab]": "ab", "[a-c]": "abc", "[\\-é]": "-é"}
PATTERN = st.lists(st.sampled_from(["*", *TOKENS]), max_size=8)
NAME = st.text("abé*-/", max_size=8)


def matches(tokens: list[str], name: str) -> bool:
    """By trying everything. (Only where no class takes a slash: Go does not take a choice back then.)"""
    if not tokens:
        return not name
    first, rest = tokens[0], tokens[1:]
    if first == "*":
        return any(matches(rest, name[i:]) for i in range(len(name) + 1) if "/" not in name[:i])
    return bool(name) and name[0] in TOKENS[first] and matches(rest, name[1:])


@given(PATTERN, NAME)
def test_it_is_what_trying_everything_finds(tokens: list[str], name: str) -> None:
    assert Glob("".join(tokens)).match(name) is matches(tokens, name)


@given(PATTERN, NAME)
def test_its_components_match_the_components_of_names(tokens: list[str], name: str) -> None:
    parts = Glob("".join(tokens)).components()
    assert parts is not None
    names = name.split("/")
    assert (len(parts) == len(names) and all(p.match(n) for p, n in zip(parts, names, strict=True))) is matches(tokens, name)


def test_a_class_that_takes_a_slash_is_matched_as_a_whole() -> None:
    assert Glob("a[^b]c").components() is None
    assert Glob("a[!-~]c").components() is None
    assert Glob("a[^/]c").components() is not None


# ------------------------------------------------------------------------------------------------ work
@given(st.text("ab*?[]/", max_size=30), st.text("ab/", max_size=200))
def test_work_grows_with_pattern_times_name_at_most(pattern: str, name: str) -> None:
    try:
        glob = Glob(pattern)
    except BadPatternError:
        return
    lines_run(lambda: glob.match(name), 40 + 20 * (len(pattern) + 1) * (len(name) + 1))


def test_stars_without_end_are_no_work_without_end() -> None:
    """2^n choices for what goes back and tries the next one."""
    for pattern in ("*a" * 30 + "b", "*?a" * 30 + "b", "*[a-b]" * 30 + "b"):
        glob = Glob(pattern)
        assert not glob.match("a" * 200)
        lines_run(lambda glob=glob: glob.match("a" * 200), 20 * len(pattern) * 200)  # type: ignore[misc]

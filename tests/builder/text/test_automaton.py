"""The core below the patterns: sets of places, what is remembered and what is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.text.automaton import FOLDERS, NOT_NEWLINE, NOT_SLASH, ONE, OPTIONAL, STAR, Automaton, CharSet, Step

AB = CharSet([("a", "b")])
STEPS: dict[str, Step] = {
    "a": (ONE, "a"), "b": (ONE, "b"), "/": (ONE, "/"), "[ab]": (ONE, AB), "a?": (OPTIONAL, "a"), "a*": (STAR, "a"),
    "[ab]*": (STAR, AB), "[^/]*": (STAR, NOT_SLASH), ".*": (STAR, NOT_NEWLINE), "(.*/)?": (FOLDERS, ""),
}  # fmt: skip
ROW = st.lists(st.sampled_from(list(STEPS)), max_size=6)
TEXT = st.text("ab/\n", max_size=8)


def matches(row: list[str], text: str) -> bool:
    """By trying everything."""
    if not row:
        return not text
    kind, chars = STEPS[row[0]]
    rest = row[1:]
    if kind == ONE:
        return bool(text) and text[0] in chars and matches(rest, text[1:])
    if matches(rest, text):
        return True
    if kind == OPTIONAL:
        return bool(text) and text[0] in chars and matches(rest, text[1:])
    if kind == STAR:
        return bool(text) and text[0] in chars and matches(row, text[1:])
    return any(text[n - 1] == "/" and "\n" not in text[:n] and matches(rest, text[n:]) for n in range(1, len(text) + 1))


@given(st.lists(ROW, max_size=5), st.lists(TEXT, max_size=5))
def test_it_is_what_trying_everything_finds(rows: list[list[str]], texts: list[str]) -> None:
    automaton = Automaton([[STEPS[name] for name in row] for row in rows])
    for text in texts:
        assert automaton.matched(text) == tuple(i for i, row in enumerate(rows) if matches(row, text))


@given(ROW, TEXT)
def test_the_longest_and_the_shortest(row: list[str], text: str) -> None:
    automaton = Automaton([[STEPS[name] for name in row]])
    ends = [n for n in range(len(text) + 1) if matches(row, text[:n])]
    assert automaton.longest(text) == max(ends, default=-1)
    assert automaton.shortest(text) == min(ends, default=-1)


@given(st.lists(st.sampled_from([name for name in STEPS if name != "(.*/)?"]), max_size=5), TEXT)
def test_where_matches_end_that_begin_anywhere(row: list[str], text: str) -> None:
    automaton = Automaton([[STEPS[name] for name in row]], floating=True)
    ends = [end for end in range(len(text) + 1) if any(matches(row, text[start:end]) for start in range(end + 1))]
    assert automaton.each_end(text) == ends


def test_alternatives_have_one_label() -> None:
    automaton = Automaton([[(ONE, "a")], [(ONE, AB)], [(ONE, "b")]], labels=[3, 3, 7])
    assert automaton.matched("a") == (3,)
    assert automaton.matched("b") == (3, 7)


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_forgetting_changes_no_answer_and_bounds_what_is_kept(memory: int) -> None:
    row = [STEPS["(.*/)?"], STEPS["[^/]*"], (ONE, "7"), STEPS["[^/]*"], (ONE, "7"), STEPS["[^/]*"]]
    automaton = Automaton([row], memory=memory)
    for i in range(3000):
        assert automaton.matched(f"é{i % 10}/a{i:x}\u0100{i}") == ((0,) if str(i).count("7") + f"{i:x}".count("7") >= 2 else ())
        if not memory:
            assert sum(map(len, automaton._states.values())) <= 64


def test_a_transition_is_found_once() -> None:
    found: list[str] = []

    class Counted(Automaton):
        def _follow(self, state, char):  # type: ignore[no-untyped-def]
            found.append(char)
            return super()._follow(state, char)

    automaton = Counted([[STEPS["[^/]*"], (ONE, "a")] * 20 + [(ONE, "b")]])
    assert automaton.matched("a" * 1000) == ()
    assert len(found) <= 42  # one for each number of letters that the pattern can tell apart, not one for each choice
    found.clear()
    assert automaton.matched("a" * 1000) == ()
    assert not found

"""The patterns of ``${V#p}`` and its like: against trying everything, and how much work they may be."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import ShellError
from frontend.shell import Lex
from frontend.shellpattern import replace, trim_prefix, trim_suffix
from tests.support.work import lines_run

TOKENS = {"a": "a", "b": "b", "é": "é", "\\*": "*", "\\?": "?", "\\\\": "\\", "\\/": "/", "\\}": "}", "[": "[", "\n": "\n"}
PATTERN = st.lists(st.sampled_from(["*", "?", *TOKENS]), max_size=6)
VALUE = st.text("abé*?\\/}[.\n", max_size=8)


def matches(tokens: list[str], text: str) -> bool:
    if not tokens:
        return not text
    first, rest = tokens[0], tokens[1:]
    if first == "*":
        return matches(rest, text) or (bool(text) and text[0] != "\n" and matches(tokens, text[1:]))
    return bool(text) and (text[0] != "\n" if first == "?" else text[0] == TOKENS[first]) and matches(rest, text[1:])


@given(PATTERN, VALUE)
def test_trimming_is_what_trying_everything_finds(tokens: list[str], value: str) -> None:
    pattern, n = "".join(tokens), len(value)
    heads = [i for i in range(n + 1) if matches(tokens, value[:i])] or [0]
    tails = [i for i in range(n + 1) if matches(tokens, value[i:])] or [n]
    assert trim_prefix(pattern, value, longest=False) == value[min(heads) :]
    assert trim_prefix(pattern, value, longest=True) == value[max(heads) :]
    assert trim_suffix(pattern, value, longest=False) == value[: max(tails)]
    assert trim_suffix(pattern, value, longest=True) == value[: min(tails)]


def spans(tokens: list[str], value: str) -> list[tuple[int, int]]:
    """Leftmost longest matches that do not overlap; an empty one does not count right behind another."""
    out: list[tuple[int, int]] = []
    start = last = 0
    while start <= len(value):
        ends = [end for end in range(start, len(value) + 1) if matches(tokens, value[start:end])]
        if not ends:
            start += 1
            continue
        if max(ends) > last or start == 0:
            out.append((start, max(ends)))
        last = max(ends)
        start = max(last, start + 1)
    return out


@given(PATTERN, VALUE)
def test_replacing_is_what_trying_everything_finds(tokens: list[str], value: str) -> None:
    pattern, found = "".join(tokens), spans(tokens, value)
    out, at = "", 0
    for start, end in found:
        out += value[at:start] + "<" + value[start:end] + ">"
        at = end
    assert replace(pattern, "<$0>", value, replace_all=True) == out + value[at:]
    first = f"{value[: found[0][0]]}<$0>{value[found[0][1] :]}" if found else value
    assert replace(pattern, "<$0>", value, replace_all=False) == first


@pytest.mark.parametrize(
    ("template", "filled"),
    [("$0", "ab"), ("${0}!", "ab!"), ("$$0", "$0"), ("$1", ""), ("$0x", ""), ("$x y", " y"), ("${a}b", "b"), ("$", "$"),
      ("$-", "$-"),
     ("${0", "${0"), ("${}", "${}"), ("$$$", "$$"), ("$é1", ""), ("$00", "")],
)  # fmt: skip
def test_templates_of_go(template: str, filled: str) -> None:
    assert replace("a*", template, "ab", replace_all=True) == filled


def test_a_suffix_comes_back_without_bytes_that_are_no_text() -> None:
    assert trim_prefix("x", "x\udca9", longest=False) == "\udca9"
    assert trim_suffix("x", "\udca9x", longest=False) == "\ufffd"


# ------------------------------------------------------------------------------------------------ work
@given(st.text("ab*?\\\n", max_size=40), st.text("ab\n", max_size=300))
def test_work_grows_with_the_text_not_with_its_square(pattern: str, value: str) -> None:
    def all_of_them() -> None:
        with contextlib.suppress(ShellError):
            trim_prefix(pattern, value, longest=True)
            trim_suffix(pattern, value, longest=False)
            replace(pattern, "$0", value, replace_all=True)

    lines = 1 + pattern.count("\n")  # a match that fails may have looked at as many lines as the pattern has
    lines_run(all_of_them, 3000 + 400 * len(pattern) + 200 * len(value) + 10 * lines * len(value))


@pytest.mark.parametrize("form", ["${A#P}", "${A##P}", "${A%P}", "${A%%P}", "${A/P/x}", "${A//P/x}"])
def test_stars_without_end_are_no_work_without_end(form: str) -> None:
    """2^n choices for what goes back and tries the next one."""
    value = "a" * 300
    for pattern in ("*a" * 30 + "b", "b" + "a*" * 30, "?*a" * 30 + "b"):
        word = form.replace("P", pattern)
        assert Lex().process_word(word, {"A": value}) == value
        lines_run(lambda word=word: Lex().process_word(word, {"A": value}), 40_000)  # type: ignore[misc]

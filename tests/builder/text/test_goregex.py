"""The accidents of patternmatcher's regular expressions: each row is what Go's regexp package says."""

from __future__ import annotations

import pytest

from builder.text.goregex import parse
from builder.text.patterns import PatternMatcher


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("[a*]b", ["]b", "a]b", "[/^a]b"], ["ab", "*b"]),  # [a[^/]*]b: the class ends in the wildcard, and has a star
        ("[a?b]", ["ab]", "/b]", "[b]"], ["a", "?", "b"]),
        ("[^*]", ["]", "x]"], ["x", "*"]),
        ("x[**/y]", ["x.", "x(", "xy"], ["x", "xyz"]),
        ("[[:alpha:]*]", ["]", "a]", "/^]"], ["é]"]),
        ("[[:alpha:]]", ["a", "Z"], ["é", ":", "1"]),
        ("[[:^alpha:]]", ["1", "é"], ["a"]),
        ("[[:word:]-]", ["_", "-", "1"], ["/", "é"]),
        ("\\d\\D?", ["1xy", "0éa"], ["1", "11x", "xxx"]),
        ("[\\d-z]", ["1", "-", "z"], ["e"]),
        ("[\\D]x", ["ax"], ["1x"]),
        ("\\w\\W\\s\\S", ["a-\t-"], ["a- a-"]),
        ("\\pL?", ["éx", "Ωx"], ["1x"]),
        ("\\PL", ["1"], ["a"]),
        ("[\\pN\\pL]", ["a", "1"], ["-"]),
        ("\\x41*", ["A", "Ab"], ["x41"]),
        ("\\101?", ["Ax"], ["101x"]),
        ("\\0", ["\0"], ["0"]),
        ("\\Qa*\\Eb", ["a[^/]*b"], ["ab"]),
        ("\\Qa*", ["a[^/]*$", "a[^/]*$more/than"], ["a"]),  # it takes the end as well
        ("a*\\", ["ax$", "a$/b"], ["a", "ab"]),  # so does a backslash
        ("\\bx?", ["xy"], ["yx"]),
        ("a\\Bb\\b", ["ab"], ["a b"]),
        ("a\\b?b", ["a-b"], ["aab"]),
        ("\\A\\z?", [], ["a"]),
        ("^?", ["a", "^"], ["ab"]),
        ("a^*", [], ["a", "a^"]),
        ("*^a", ["a"], ["^a", "ba"]),
        # Not escaped, as they are meant to be: | { }
        ("*.(js|ts)", ["a.(js", "b.(jsx", "x/y.ts)", "ts)"], ["a.js", "a.(ts"]),
        ("a|b*", ["a", "ax/y", "b", "xb"], ["c", "b/c/d"]),
        ("a{2}?", ["aab", "aaa"], ["a{2}b", "ab"]),
        ("x{1,2}*", ["x", "xx", "xxy"], ["y"]),
        ("x{0}?", ["a"], ["xa"]),
        ("x{2,}?", ["xxxxa"], ["xa"]),
        ("[ab]{2}", ["ab", "bb"], ["a", "a{2}"]),
        ("{{name}}*", ["{{name}}", "{{name}}.x"], ["name"]),
        ("*.{png,jpg}", ["a.{png,jpg}"], ["a.png"]),
        ("a{,2}?", ["a{,2}x"], ["ax"]),
        ("^{0}a?", ["ab"], ["^{0}ab"]),
        # Bytes that are no UTF-8 are U+FFFD for an expression, and themselves otherwise.
        ("?\udca9", ["x\udca8", "x\ufffd"], ["x\xa9"]),
        ("\udca9", ["\udca9"], ["\ufffd"]),
        ("**\udca9", ["é", "x\udca9"], ["\ufffd"]),
        ("a.+()$*", ["a.+()$", "a.+()$x"], ["ab"]),
        ("**/x\n*", ["x\n", "a/x\ny"], ["a\n/x\n"]),  # ** does not cross a line end
    ],
)
def test_what_go_matches(pattern: str, matched: list[str], others: list[str]) -> None:
    matcher = PatternMatcher([pattern])
    for path in matched:
        # The path alone: of its folders nothing is asked.
        assert matcher.matches_using_parent_results(path, ((), ()))[0], path
    for path in others:
        assert not matcher.matches_using_parent_results(path, ((), ()))[0], path


@pytest.mark.parametrize(
    "regex",
    ["^[a", "^[z-a]$", "^\\q$", "^a\\", "^\\pX$", "^\\p", "^[[:x:]]$", "^a{2}{3}$", "^a*{2}$", "^a|{2}$", "^a{1001}$", "^a{2,1}$",
     "^\\8$", "^\\1$", "^\\x4$", "^\\xg1$", "^\\C$", "^\\E$", "^[\\z]$", "^a{999999999999}$", "^" + "a{1000}" * 3400 + "$"],
)  # fmt: skip
def test_what_go_rejects(regex: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(regex)

"""The lexer against ``testdata/shell``, its options, and what it never does."""

from __future__ import annotations

import contextlib
import os
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import ShellError
from frontend.shell import MAX_NESTED, Lex

TABLES = os.path.join(os.path.dirname(__file__), "..", "..", "testdata", "shell")
ENV = {"V": "val", "EMPTY": "", "PATH": "/a/b/c.tar.gz", "STARS": "a*b?", "SP": "x  y ", "한": "글", "DOLLAR": "<$0$1$$>"}


def rows(name: str) -> list[tuple[str, str]]:
    with open(os.path.join(TABLES, name), encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f if not line.startswith("#")]
    pairs = (line.partition(" =>") for line in lines if line)
    return [(word, expected.removeprefix(" ")) for word, _, expected in pairs]


@pytest.mark.parametrize(("word", "expected"), rows("expansion.txt"))
def test_word(word: str, expected: str) -> None:
    if expected.startswith("! "):
        with pytest.raises(ShellError) as caught:
            Lex().process_word(word, ENV)
        assert f"! {caught.value}" == expected
    else:
        assert Lex().process_word(word, ENV) == expected


@pytest.mark.parametrize(("text", "expected"), rows("words.txt"))
def test_words(text: str, expected: str) -> None:
    assert list(Lex().process_words(text, ENV)) == re.findall(r"\[(.*?)\](?: |$)", expected)


def test_names_that_were_asked_for_are_told() -> None:
    result = Lex().process_word_with_matches("$V ${MISSING:-$EMPTY} ${V:+$OTHER} '$QUOTED'", ENV)
    assert result.result == "val   $QUOTED"
    assert result.matched == {"V", "EMPTY"}
    assert result.unmatched == {"MISSING", "OTHER"}


def test_other_escape_token() -> None:
    lexer = Lex("`")
    assert lexer.process_word("`$V c:\\$V \"`\"\" `` \\'a'", ENV) == '$V c:\\val " ` \\a'


def test_raw_quotes_stay() -> None:
    assert Lex(raw_quotes=True).process_word("'$V' \"$V\" \\x", ENV) == "'$V' \"val\" x"


def test_raw_escapes_stay() -> None:
    assert Lex(raw_escapes=True).process_word('\\$V \\x "\\$V"', ENV) == "\\$V \\x \\$V"


def test_quotes_without_meaning() -> None:
    assert Lex(skip_process_quotes=True).process_word("it's \"$V\" '$V' \\$V", ENV) == "it's \"val\" 'val' $V"


def test_unknown_variables_stay() -> None:
    lexer = Lex(skip_unset_env=True)
    text = "$M ${M} ${M:-a$V} ${M#x} ${M##x} ${M/a/b}"
    assert lexer.process_word(text, ENV) == "$M ${M} ${M:-aval} ${M#x} ${M##x} ${M/a/b}"
    assert lexer.process_word("$V$", ENV) == "val$"


def test_replace_all_fills_in_references_as_go_does() -> None:
    assert Lex().process_word("${V//a/$DOLLAR}", ENV) == "v<a$>l"
    assert Lex().process_word("${V/a/$DOLLAR}", ENV) == "v<$0$1$$>l"


def test_undecodable_byte_becomes_the_replacement_character() -> None:
    assert Lex().process_word("a\udcff$V", ENV) == "a\ufffdval"


@pytest.mark.parametrize("begin", ["${%s:-", "${V:+", "${EMPTY-%s${EMPTY:-", '${%s:-"', "${V/al/", "${V#"])
def test_substitutions_may_be_nested_100_deep_and_no_more(begin: str) -> None:
    """However much of the stack the caller has used; the frames of a level are those of the longest way through the lexer."""

    def nested(depth: int) -> str:
        each = begin.count("${")
        quote = '"' if begin.endswith('"') else ""
        return begin.replace("%s", "a") * (depth // each) + "e" + (quote + "}" * each) * (depth // each)

    def deeper(frames: int, text: str) -> str:
        return deeper(frames - 1, text) if frames else Lex().process_word(text, ENV)

    deeper(80, nested(MAX_NESTED))
    for depth in (MAX_NESTED + 2, 10_000):
        with pytest.raises(ShellError, match="substitutions are nested more than 100 deep"):
            Lex().process_word(nested(depth), ENV)
    with pytest.raises(ShellError, match="nested too deeply"):
        deeper(sys.getrecursionlimit() - 200, nested(MAX_NESTED))


TEXTS = st.one_of(st.text(max_size=40), st.text(alphabet="$${}V:-+?#%/*\\'\"` <aM\n", max_size=40))


@given(TEXTS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_any_word_expands_or_is_a_shell_error(text: str, a: bool, b: bool, c: bool, d: bool) -> None:
    lexer = Lex("\\", a, b, c, d)
    for process in (lexer.process_word, lexer.process_words):
        with contextlib.suppress(ShellError):
            process(text, ENV)


@given(st.text(alphabet=st.characters(exclude_characters="$'\"\\\ufeff", exclude_categories=["Cs"])))
def test_text_without_special_characters_stays(text: str) -> None:
    assert Lex().process_word(text, ENV) == text
    assert " ".join(Lex().process_words(text.replace("<", ""), ENV)).split() == text.replace("<", "").split()

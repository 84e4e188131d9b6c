"""The parser against ``testdata/parser*``, and the properties that hold for any text."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import FrontendError, ParseError, Range
from frontend.instructions.parse import parse_stages
from frontend.parser import Heredoc, Node, ParseResult, dump, parse, print_dockerfile
from frontend.parser.directives import detect_syntax, parse_directive

TESTDATA = os.path.join(os.path.dirname(__file__), "..", "..", "testdata")
GOOD = os.path.join(TESTDATA, "parser")
BAD = os.path.join(TESTDATA, "parser-negative")


def text_of(*path: str) -> str:
    with open(os.path.join(*path), encoding="utf-8", errors="surrogateescape", newline="") as f:
        return f.read()


def only_node(text: str) -> Node:
    (node,) = parse(text).nodes
    return node


@pytest.mark.parametrize("name", sorted(os.listdir(GOOD)))
def test_tree_is_the_golden_one(name: str) -> None:
    result = parse(text_of(GOOD, name, "Dockerfile"))
    assert "\n".join(dump(result)) + "\n" == text_of(GOOD, name, "result")


@pytest.mark.parametrize("name", sorted(os.listdir(BAD)))
def test_error_and_its_line_are_the_golden_ones(name: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_stages(parse(text_of(BAD, name, "Dockerfile")).nodes)
    assert f"{caught.value.ranges[0].start}: {caught.value}\n" == text_of(BAD, name, "error")


def comparable(result: ParseResult) -> list[object]:
    """What printing keeps: everything but line numbers and spaces around a line."""
    return [
        (line, node.comments, node.heredocs, node.json)
        for line, node in zip(dump(result), result.nodes, strict=True)
    ]


@pytest.mark.parametrize("name", sorted(os.listdir(GOOD)))
def test_printed_file_parses_to_the_same(name: str) -> None:
    result = parse(text_of(GOOD, name, "Dockerfile"))
    assert comparable(parse(print_dockerfile(result))) == comparable(result)


FRAGMENTS = st.sampled_from(
    [
        "FROM a", "RUN", "COPY", "ENV", "ONBUILD", "HEALTHCHECK CMD", "# escape=`", "# check=skip=all", "#", "# c", "\\",
        "`", "\n", "\r\n", "\t", " ", "\x0b", "\x1c", "\x85", "\u00a0", "\ufeff", "<<", "<<-", "EOF", "\nEOF\n", "'", '"',
        "$", "${", "}", "=", "a=b", "--", "--x=y", "[", "]", '["a"]', "[1]", ",", "\udcff", "é", "x",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.lists(FRAGMENTS, max_size=30).map("".join), st.text(max_size=80))


@given(TEXTS)
def test_any_text_parses_or_is_a_frontend_error(text: str) -> None:
    with contextlib.suppress(FrontendError):
        parse_stages(parse(text).nodes)


@given(TEXTS)
def test_printing_is_stable_for_any_text_that_parses(text: str) -> None:
    try:
        result = parse(text)
    except FrontendError:
        return
    printed = print_dockerfile(result)
    again = parse(printed)
    assert comparable(again) == comparable(result)
    assert print_dockerfile(again) == print_dockerfile(parse(print_dockerfile(again)))


def test_a_line_longer_than_a_physical_one_is_printed_folded() -> None:
    text = "FROM scratch\nRUN x" + "\\\n aaaaaa # \\\\é \\b# c" * 9000 + "\nCMD y\n"
    result = parse(text)
    printed = print_dockerfile(result)
    assert max(map(len, printed.split("\n"))) < 65535 < len(printed)
    assert dump(parse(printed)) == dump(result)


def test_deeply_nested_onbuild_is_an_error_not_a_crash() -> None:
    result = parse("FROM a\n" + "ONBUILD " * 5000 + "RUN x")
    assert dump(result)[1].endswith(")" * 5001)
    with pytest.raises(ParseError, match="Chaining ONBUILD"):
        parse_stages(result.nodes)


def test_deeply_nested_json_is_an_error_not_a_crash() -> None:
    with pytest.raises(ParseError, match="strings only"):
        parse("CMD " + "[" * 20000 + "]" * 20000)


def test_node_spans_its_continuations_and_heredocs() -> None:
    node = parse("FROM a\n\nRUN x \\\n# c\n <<E\nbody\nE\n").nodes[1]
    assert (node.start_line, node.end_line) == (3, 7)
    assert node.location == tuple(Range(n, n) for n in range(3, 8))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<E", Heredoc("E", content="\tx $y\n")),
        ("<<-E", Heredoc("E", chomp=True, content="\tx $y\n")),
        ("<<'E'", Heredoc("E", expand=False, content="\tx $y\n")),
        ('<<-"E"', Heredoc("E", expand=False, chomp=True, content="\tx $y\n")),
        ('<<E""', Heredoc("E", expand=False, content="\tx $y\n")),
        ("3<<E", Heredoc("E", file_descriptor=3, content="\tx $y\n")),
        ("<< E", Heredoc("E", content="\tx $y\n")),
    ],
)
def test_heredoc_word(word: str, expected: Heredoc) -> None:
    assert only_node(f"RUN cat {word}\n\tx $y\nE\n").heredocs == (expected,)


def test_heredoc_of_dash_ends_at_an_indented_word() -> None:
    assert only_node("RUN <<-E\n\ta\n\t\tE\n").heredocs[0].content == "\ta\n"


def test_heredocs_of_onbuild_belong_to_the_outer_node() -> None:
    node = only_node("ONBUILD RUN <<A\nx\nA\n")
    assert [heredoc.content for heredoc in node.heredocs] == ["x\n"]
    assert node.child is not None
    assert node.child.heredocs == ()


def test_comments_directly_above_belong_to_the_instruction() -> None:
    nodes = parse("# lost\n#\n# one\n#  two \nFROM a\n# three\n\nRUN x\nRUN y\n").nodes
    assert [node.comments for node in nodes] == [("one", "two"), ("three",), ()]


def test_directives_are_no_comments() -> None:
    assert parse("# check=skip=all\n# a\nFROM a\n").nodes[0].comments == ("a",)


def test_blank_continuation_line_is_reported_at_the_last_line() -> None:
    result = parse("FROM a\nRUN x \\\n\n  y\n")
    assert [(found.line, found.text) for found in result.empty_continuations] == [(4, "RUN x   y")]


def test_comment_in_continuation_is_no_blank_line() -> None:
    assert parse("RUN x \\\n# c\n  y\n").empty_continuations == ()


def test_escape_token_is_told() -> None:
    assert parse("# escape=`\nFROM a").escape_token == "`"


@pytest.mark.parametrize("size", [65535, 65536])
def test_a_physical_line_may_have_65535_bytes(size: int) -> None:
    line = "#" + "é" * ((size - 1) // 2) + "x" * ((size - 1) % 2)
    text = f"FROM a\n{line}\nRUN x\n"
    if size == 65535:
        assert len(parse(text).nodes) == 2
    else:
        with pytest.raises(ParseError, match="max allowed size of 65535"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "value", "line"),
    [
        ("# syntax=a/b:1 x\nFROM a", "a/b:1", 1),
        ("#!/bin/sh\n#syntax = a", "a", 2),
        ("// syntax=a", "a", 1),
        ("\ufeff# escape=`\n# SYNTAX=a", "a", 2),
        ('{"syntax": "a", "b": 1}', "a", 0),
        ('#!x\n{"syntax": "a"}', "a", 0),
    ],
)
def test_syntax_is_found(text: str, value: str, line: int) -> None:
    found = detect_syntax(text)
    assert found is not None
    assert found.value == value
    assert [r.start for r in found.ranges] == ([line] if line else [])


@pytest.mark.parametrize(
    "text", ["FROM a", "\n# syntax=a", "# x\n# syntax=a", '{"syntax": 1}', '{"syntax": "a"', "# syntax=", "//x\n//syntax=a"]
)
def test_no_syntax(text: str) -> None:
    assert detect_syntax(text) is None


def test_directive_value_and_whole_line() -> None:
    found = parse_directive("check", "# syntax=x\n# check = skip=A, B\nFROM a")
    assert found is not None
    assert (found.value, found.cmdline) == ("skip=A,", "skip=A, B")
    assert parse_directive("check", "// check=skip=A\n") is None

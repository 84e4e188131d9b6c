"""Heredoc words (``<<EOF``, ``<<-EOF``, ``3<<"EOF"``)."""

from __future__ import annotations

from builder.values import replace
from frontend.errors import ParseError, ShellError
from frontend.parser.node import Heredoc
from frontend.shell import Lex

# The escape directive does not reach heredoc words: BuildKit lexes them with a backslash always.
_WORD = Lex(skip_unset_env=True)
_WORD_RAW = replace(_WORD, raw_quotes=True)
_LINE = Lex(skip_unset_env=True, raw_quotes=True, raw_escapes=True)
_RE_SPACE = "\t\n\f\r "
_MAX_DESCRIPTOR = 2**64 - 1


def parse_heredoc(word: str) -> Heredoc | None:
    """The heredoc that ``word`` announces, without content; None if it is no heredoc. Raises ``ParseError``."""
    descriptor, operator, rest = word.partition("<<")
    if not operator or descriptor.strip("0123456789"):
        return None
    chomp = rest.startswith("-")
    rest = rest[chomp:].lstrip(_RE_SPACE)
    if not rest or "<" in rest:
        return None
    try:
        words = _WORD.process_words(rest, {})
        raw_words = _WORD_RAW.process_words(rest, {})
    except ShellError as e:
        raise ParseError(str(e)) from None
    if len(words) != 1:
        return None
    if len(raw_words) != 1:
        raise ParseError(f"internal lexing of heredoc produced inconsistent results: {rest}")
    # Quotes that the lexer took away mean that some part of the word was quoted, as in sh.
    expand = _quotes(words[0]) == _quotes(raw_words[0])
    number = min(int(descriptor), _MAX_DESCRIPTOR) if descriptor and len(descriptor) < 25 else 0
    return Heredoc(words[0], expand, chomp, number)


def maybe_heredoc(word: str) -> Heredoc | None:
    """``parse_heredoc`` for a word that may as well be anything else: a malformed one is none."""
    if "<<" not in word:
        return None
    try:
        return parse_heredoc(word)
    except ParseError:
        return None


def heredocs_of_line(line: str) -> list[Heredoc]:
    """The heredocs that a logical line announces, in order. A line with unbalanced quotes announces none."""
    try:
        words = _LINE.process_words(line, {})
    except ShellError:
        return []
    return [heredoc for word in words if "<<" in word and (heredoc := parse_heredoc(word)) is not None]


def chomp(content: str) -> str:
    """``content`` of ``<<-`` without the tabs its lines begin with."""
    return "\n".join(line.lstrip("\t") for line in content.split("\n"))


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')

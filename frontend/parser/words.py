"""The rest of an instruction's line, cut the way the instruction wants it (BuildKit's line parsers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.text.chars import SPACE, SPACES, byte_chars, from_byte_chars, replace_invalid
from builder.text.quoting import quote
from builder.values import dataclass
from frontend.errors import ParseError

_BLANKS = "\t\v\f\r "
_TO_BLANK = dict.fromkeys(map(ord, _BLANKS), " ")
_SEPARATORS = frozenset("\x1c\x1d\x1e\x1f")  # str.split takes them for spaces, Go does not
# The same set byte by byte: U+0085 and U+00A0 are also the second bytes of many other characters.
_BYTE_SPACES = frozenset("\t\n\v\f\r \x85\xa0")


@dataclass(frozen=True, slots=True)
class Words:
    """Arguments, and whether they were a JSON array."""

    args: tuple[str, ...] = ()
    json: bool = False


_NOTHING = Words()


def split_command(line: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """Keyword, flags and the rest (trimmed) of a logical line."""
    keyword, after = _cut(line.strip(SPACE))
    if after is None:
        return keyword, (), ""
    flags, rest = split_flags(after, escape)
    return keyword, flags, rest.strip(SPACE)


def _cut(text: str) -> tuple[str, str | None]:
    """What lies before the first row of blanks, and behind it; None where there is none."""
    end = next((i for i, ch in enumerate(text) if ch in _BLANKS), -1)
    return (text, None) if end < 0 else (text[:end], text[end:].lstrip(_BLANKS))


def split_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The ``--`` words that ``text`` begins with, and what follows; a lone ``--`` ends them.

    BuildKit goes by bytes here, so a flag's non-ASCII characters come out as if their bytes were Latin-1.
    """
    if not text.lstrip(SPACE).startswith("--"):
        return (), text.lstrip(SPACE)
    chars = byte_chars(text)
    flags: list[str] = []
    pos = 0
    while True:
        while pos < len(chars) and chars[pos] in _BYTE_SPACES:
            pos += 1
        if not chars.startswith("--", pos):
            return tuple(flags), from_byte_chars(chars[pos:])
        word, quoted, pos = _flag_word(chars, pos, escape)
        if word == "--":
            return tuple(flags), from_byte_chars(chars[pos:])
        if word or quoted:
            flags.append(word)


def _flag_word(chars: str, pos: int, escape: str) -> tuple[str, bool, int]:
    """The word at ``pos`` without its quotes and escapes, whether it had quotes, and where it ends."""
    out: list[str] = []
    quote_char, quoted = "", False
    while pos < len(chars):
        ch = chars[pos]
        if not quote_char and ch in _BYTE_SPACES:
            break
        pos += 1
        if ch == quote_char:
            quote_char = ""
        elif not quote_char and ch in ("'", '"'):
            quote_char, quoted = ch, True
        elif ch != escape:
            out.append(ch)
        elif pos < len(chars):  # an escape at the end of the line is dropped
            out.append(chars[pos])
            pos += 1
    return "".join(out), quoted, pos


def split_words(text: str, escape: str) -> list[str]:
    """Words at unquoted spaces; quotes and escapes stay for the lexer."""
    if not text.isascii():
        text = replace_invalid(text)
    elif "'" not in text and '"' not in text and escape not in text and _SEPARATORS.isdisjoint(text):
        return text.split()
    words: list[str] = []
    pos = 0
    while pos < len(text):
        if text[pos] in SPACES:
            pos += 1
            continue
        word, quoted, pos = _quoted_word(text, pos, escape)
        if word or quoted:
            words.append(word)
    return words


def _quoted_word(text: str, pos: int, escape: str) -> tuple[str, bool, int]:
    out: list[str] = []
    quote_char, quoted = "", False
    while pos < len(text):
        ch = text[pos]
        if not quote_char and ch in SPACES:
            break
        pos += 1
        if ch == escape and quote_char != "'":
            if pos == len(text):  # an escape at the end of the line is dropped
                break
            out.append(ch)
            ch = text[pos]
            pos += 1
        elif ch == quote_char:
            quote_char = ""
        elif not quote_char and ch in ("'", '"'):
            quote_char, quoted = ch, True
        out.append(ch)
    return "".join(out), quoted, pos


def name_values(text: str, escape: str, keyword: str) -> Words:
    """``a=b c=d`` or the old form ``a b``: three words each, name, value and ``=`` (or "" for the old form)."""
    words = split_words(text, escape)
    if not words:
        return _NOTHING
    if "=" not in words[0]:
        name, value = _cut(text)
        if value is None:
            raise ParseError(f"{keyword} must have two arguments")
        return Words((name, value, ""))
    args: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ParseError(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
        args += (name, value, "=")
    return Words(tuple(args))


def names_or_name_values(text: str, escape: str) -> Words:
    """ARG: words that may hold ``=``."""
    return Words(tuple(split_words(text, escape)))


def blank_separated(text: str) -> Words:
    """Words at blanks; quotes mean nothing."""
    pieces = text.translate(_TO_BLANK).split(" ")
    ends = (0, len(pieces) - 1)
    return Words(tuple(word for i, word in enumerate(pieces) if word or i in ends)) if text else _NOTHING


def whole(text: str) -> Words:
    """The text as one word."""
    return Words((text,)) if text else _NOTHING


def maybe_json(text: str) -> Words:
    """A JSON array of strings, or the text as one word."""
    return json_array(text) or whole(text)


def maybe_json_list(text: str) -> Words:
    """A JSON array of strings, or words at blanks."""
    return json_array(text) or blank_separated(text)


def health_config(text: str) -> Words:
    """HEALTHCHECK: a first word, then as ``maybe_json``."""
    chars = byte_chars(text)
    end = next((i for i, ch in enumerate(chars) if ch in _BYTE_SPACES), len(chars))
    if end == 0:
        return _NOTHING
    rest = end
    while rest < len(chars) and chars[rest] in _BYTE_SPACES:
        rest += 1
    command = maybe_json(from_byte_chars(chars[rest:]))
    return Words((from_byte_chars(chars[:end]), *command.args), command.json)


def json_array(text: str) -> Words | None:
    """``text`` as a JSON array of strings, None if it is no JSON array.

    Raises ``ParseError`` for an array of anything else.
    """
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    import json

    try:
        values = json.loads(text, parse_constant=_no_constant, parse_float=_number, parse_int=_number)
    except ValueError:
        return None
    except RecursionError:  # nested so deep, it can't be an array of strings
        values = [None]
    if not all(isinstance(value, str) for value in values):
        raise ParseError("when using JSON array syntax, arrays must be comprised of strings only")
    return Words(tuple(map(replace_invalid, values)), json=True)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")  # Python's reader takes NaN and Infinity


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("number out of range")  # so says Go, and the text is then no JSON
    return value


def _env(text: str, escape: str) -> Words:
    return name_values(text, escape, "ENV")


def _label(text: str, escape: str) -> Words:
    return name_values(text, escape, "LABEL")


def _plain(cut: Callable[[str], Words]) -> Callable[[str, str], Words]:
    return lambda text, _escape: cut(text)


# ONBUILD is not here: its rest is an instruction of its own.
CUTTERS: dict[str, Callable[[str, str], Words]] = {
    "add": _plain(maybe_json_list),
    "arg": names_or_name_values,
    "cmd": _plain(maybe_json),
    "copy": _plain(maybe_json_list),
    "entrypoint": _plain(maybe_json),
    "env": _env,
    "expose": _plain(blank_separated),
    "from": _plain(blank_separated),
    "healthcheck": _plain(health_config),
    "label": _label,
    "maintainer": _plain(whole),
    "run": _plain(maybe_json),
    "shell": _plain(maybe_json),
    "stopsignal": _plain(whole),
    "user": _plain(whole),
    "volume": _plain(maybe_json_list),
    "workdir": _plain(whole),
}
INSTRUCTIONS = frozenset((*CUTTERS, "onbuild"))

"""The instruction of a logical line, by dockerfile-parse.

The library reads a Dockerfile line by line and knows the instruction of each; it knows nothing of heredocs, flags,
JSON forms or this project's continuation rule, and gets blank continuation lines and byte order marks wrong. So it is
handed one logical line at a time, joined and free of comments, and only its keyword is taken.
"""

from __future__ import annotations

from frontend.errors import ParseError

_PLACEHOLDER = "-"


def keyword(line: str, word: str) -> str:
    """The instruction of ``line`` in lower case. ``word`` is the line's first word.

    Raises ``ParseError`` if the library did not see exactly what it was handed.
    """
    if not _is_plain(word):
        return word.lower()
    from io import BytesIO

    from dockerfile_parse import DockerfileParser

    # A line that ends in a backslash would be taken for the start of a continued one, and dropped at its end.
    fed = f"{word} {_PLACEHOLDER}\n" if line.rstrip().endswith("\\") else f"{line}\n"
    data = fed.encode("utf-8", "replace")
    seen = DockerfileParser(fileobj=BytesIO(data), env_replace=False).structure
    if len(seen) != 1 or seen[0]["content"].encode() != data:
        raise ParseError(f"dockerfile-parse did not take {word} as one instruction")
    return str(seen[0]["instruction"]).lower()


def _is_plain(word: str) -> bool:
    """Whether the library cuts this word as BuildKit does.

    For it a no-break space or U+001C ends a word, ``#`` starts a comment, and its upper-casing turns other letters
    into ASCII ones. No instruction's name has such characters.
    """
    return word.isascii() and word.isprintable() and bool(word) and word[0] != "#" and " " not in word

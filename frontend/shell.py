"""BuildKit's shell lexer: expansion of variables, removal of quotes and escapes, splitting into words.

The rules are those of ``frontend/dockerfile/shell/lex.go``, its oddities included where a Dockerfile can show them
(they are marked below). Patterns of ``# ## % %% / //`` are in ``frontend/shellpattern.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder.text.chars import SPACES, replace_invalid
from builder.text.quoting import quote
from builder.values import dataclass, field
from frontend.errors import ShellError

_SPECIAL_PARAMETERS = frozenset("@*#?-$!0")
MAX_WORD = 1 << 24
"""Characters that one expansion may give: 24 doublings of a variable. BuildKit has no bound of its own and ends with the memory, or
at the 16 MB of its messages."""
MAX_TOTAL = 1 << 28
"""Characters that all expansions of one conversion may give, and the environments of its RUN steps."""
MAX_NESTED = 100
"""Substitutions inside of one another, ``${a:-${b:-...}}``: each costs some frames of Python's stack. Go's has no end, nor BuildKit
a bound."""
_EOF = ""
_EOF_TEXT = "\ufffd"  # what Go prints for the rune of end of input


@dataclass(frozen=True, slots=True)
class ProcessWordResult:
    """``result`` is the expanded text, ``words`` the same cut at unquoted spaces.

    ``matched`` and ``unmatched`` are the names of variables that were looked up and found, or not found.
    """

    result: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


class Budget:
    """What expansions may still give, in characters."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_TOTAL

    def spend(self, characters: int) -> None:
        """Raises ``ShellError`` when there is nothing left."""
        self.left -= characters
        if self.left < 0:
            raise ShellError(f"the variables of this file come to more than {MAX_TOTAL} characters in all")


@dataclass(frozen=True, slots=True)
class Lex:
    """Options of the lexer. All methods raise ``ShellError``.

    ``escape_token``         backslash or backtick (the ``escape`` directive)
    ``raw_quotes``           keep quotes in the result
    ``raw_escapes``          keep escape characters in the result
    ``skip_process_quotes``  quotes have no meaning (contents of heredocs)
    ``skip_unset_env``       leave a reference to an unknown variable as it is written
    ``budget``               what expansions are counted by, None: each word has its own bound only
    """

    escape_token: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    skip_process_quotes: bool = False
    skip_unset_env: bool = False
    budget: Budget | None = field(default=None, compare=False, repr=False)

    def process_word(self, word: str, env: Mapping[str, str]) -> str:
        """Expand ``word``; spaces stay."""
        return self.process_word_with_matches(word, env).result

    def process_words(self, word: str, env: Mapping[str, str]) -> tuple[str, ...]:
        """Expand ``word``, then cut it at spaces that are not quoted (those of values cut too)."""
        return _Run(self, word, env).process(_Words([])).words

    def process_word_with_matches(self, word: str, env: Mapping[str, str]) -> ProcessWordResult:
        """Expand ``word`` and tell which variables it asked for. ``words`` of the result is empty."""
        if word.isascii() and not any(ch in word for ch in ("$", "'", '"', self.escape_token)):
            return ProcessWordResult(word, (), frozenset(), frozenset())  # most words: nothing to do
        return _Run(self, word, env).process(None)


def envs_from_list(env: Iterable[str]) -> dict[str, str]:
    """``["K=V", ...]`` as a mapping; of a name given twice the later holds."""
    result: dict[str, str] = {}
    for entry in env:
        key, _, value = entry.partition("=")
        result[key] = value
    return result


@dataclass(slots=True)
class _Words:
    """Collects words. ``buffer`` is shared by nested calls, as it is in BuildKit (see ``_Run.process_until``)."""

    buffer: list[str]
    words: list[str] = field(default_factory=list)
    in_word: bool = False

    def add_text(self, text: str) -> None:
        if text and SPACES.isdisjoint(text):
            self.add_raw(text)
            return
        for ch in text:
            if ch not in SPACES:
                self.add_raw(ch)
            elif self.in_word and self.buffer:
                self._cut()

    def add_raw(self, text: str) -> None:
        if text:
            self.buffer.append(text)
        self.in_word = True

    def finish(self) -> list[str]:
        if self.buffer:
            self._cut()
        return self.words

    def _cut(self) -> None:
        self.words.append("".join(self.buffer))
        self.buffer.clear()
        self.in_word = False


class _Run:
    """One walk over one word."""

    __slots__ = (
        "buffer", "depth", "env", "expanded_length", "lex", "matched", "pos", "raw_escapes", "source", "special", "text",
        "unmatched",
    )  # fmt: skip

    def __init__(self, lex: Lex, word: str, env: Mapping[str, str]) -> None:
        self.lex = lex
        self.source = word
        # Go's text/scanner drops a byte order mark at the start and reads invalid bytes as U+FFFD.
        self.text = replace_invalid(word).removeprefix("\ufeff")
        self.pos = 0
        self.env = env
        self.raw_escapes = lex.raw_escapes
        self.buffer: list[str] = []
        self.expanded_length = 0
        self.depth = 0
        self.special = frozenset(("$", "<", lex.escape_token, *(() if lex.skip_process_quotes else ("'", '"'))))
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def process(self, words: _Words | None) -> ProcessWordResult:
        """``words`` collects the words, None: they are not wanted."""
        if words is not None:
            self.buffer = words.buffer
        try:
            result = self.process_until(_EOF, self.raw_escapes, words)
            if self.expanded_length and self.lex.budget is not None:
                self.lex.budget.spend(len(result))
        except ShellError as e:
            raise ShellError(f"failed to process {quote(self.source)}: {e}") from None
        except RecursionError:
            # Before MAX_NESTED: who called us has used most of the stack.
            raise ShellError("failed to process word: substitutions are nested too deeply") from None
        found = tuple(words.finish()) if words is not None else ()
        return ProcessWordResult(result, found, frozenset(self.matched), frozenset(self.unmatched))

    def peek(self) -> str:
        return self.text[self.pos : self.pos + 1]

    def next(self) -> str:
        ch = self.text[self.pos : self.pos + 1]
        self.pos += len(ch)
        return ch

    def process_until(self, stop: str, raw_escapes: bool, words: _Words | None) -> str:
        """Read up to ``stop`` (consumed) or to the end of input if ``stop`` is empty.

        The buffer of the word being built is emptied here although an outer call may have text in it: in a list of
        words, ``a${B:-c}`` loses the ``a`` in BuildKit, and so it does here.
        """
        outer_raw, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            self.buffer.clear()
            result: list[str] = []
            text, special = self.text, self.special
            while self.pos < len(text):
                start = at = self.pos
                while at < len(text) and (ch := text[at]) != stop and ch not in special:
                    at += 1
                self.pos = at
                if at > start:
                    result.append(text[start:at])
                    if words is not None:
                        words.add_text(text[start:at])
                elif text[at] == stop:
                    self.pos += 1
                    return "".join(result)
                elif not self._step(text[at], result, words):
                    break
            if stop:
                raise ShellError(f"unexpected end of statement while looking for matching {stop}")
            return "".join(result)
        finally:
            self.raw_escapes = outer_raw

    def _step(self, ch: str, result: list[str], words: _Words | None) -> bool:
        """Take one construct, that ``ch`` begins; False at the end of input after an escape character."""
        if ch == "$":
            value = self.dollar()
            result.append(value)
            if words is not None:
                words.add_text(value)
        elif ch == "<":
            self._literal(self.heredoc_operator(), result, words)
        elif ch == "'" and not self.lex.skip_process_quotes:
            self._literal(self.single_quote(), result, words)
        elif ch == '"' and not self.lex.skip_process_quotes:
            self._literal(self.double_quote(), result, words)
        else:
            self.pos += 1
            if self.raw_escapes:
                self._literal(ch, result, words)
            escaped = self.next()
            if not escaped:
                return False
            self._literal(escaped, result, words)
        return True

    @staticmethod
    def _literal(text: str, result: list[str], words: _Words | None) -> None:
        result.append(text)
        if words is not None:
            words.add_raw(text)

    def single_quote(self) -> str:
        """POSIX sh 2.2.2: nothing inside has a meaning, not even the escape character."""
        end = self.text.find("'", self.pos + 1)
        if end < 0:
            self.pos = len(self.text)
            raise ShellError("unexpected end of statement while looking for matching single-quote")
        start, self.pos = self.pos, end + 1
        return self.text[start : end + 1] if self.lex.raw_quotes else self.text[start + 1 : end]

    def double_quote(self) -> str:
        """POSIX sh 2.2.3: variables expand; the escape character works before ``"``, ``$`` and itself only."""
        result = ['"'] if self.lex.raw_quotes else []
        self.pos += 1
        while ch := self.peek():
            if ch == "$":
                result.append(self.dollar())
                continue
            self.pos += 1
            if ch == '"':
                if self.lex.raw_quotes:
                    result.append(ch)
                return "".join(result)
            if ch == self.lex.escape_token:
                if self.raw_escapes:
                    result.append(ch)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", self.lex.escape_token):
                    ch = self.next()
            result.append(ch)
        raise ShellError("unexpected end of statement while looking for matching double-quote")

    def heredoc_operator(self) -> str:
        """``<<`` keeps the blanks after it, so that it and its word stay together as one word."""
        start = self.pos
        self.pos += 1
        if self.peek() == "<":
            self.pos += 1
            while self.peek() in ("\t", "\r", " "):
                self.pos += 1
        return self.text[start : self.pos]

    def name(self) -> str:
        """A variable's name: digits only, or one special parameter, or letters, digits and ``_``; may be empty."""
        start, first = self.pos, self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.pos += 1
        elif first in _SPECIAL_PARAMETERS:
            self.pos += 1
        else:
            while (ch := self.peek()) and (ch.isalpha() or ch.isdecimal() or ch == "_"):
                self.pos += 1
        return self.text[start : self.pos]

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def dollar(self) -> str:
        self.pos += 1
        if self.peek() == "{":
            self.pos += 1
            self.depth += 1
            if self.depth > MAX_NESTED:
                raise ShellError(f"substitutions are nested more than {MAX_NESTED} deep")
            inner = self._grow(self.braces())
            self.depth -= 1
            return inner
        name = self.name()
        if not name:
            return "$"
        value = self.lookup(name)
        if value is None:
            return f"${name}" if self.lex.skip_unset_env else ""
        return self._grow(value)

    def _grow(self, value: str) -> str:
        self.expanded_length += len(value)
        if self.expanded_length > MAX_WORD:
            raise ShellError(f"the result has more than {MAX_WORD} characters")
        return value

    def braces(self) -> str:
        """``${...}`` after the opening brace."""
        first = self.peek()
        if not first:
            raise ShellError("syntax error: missing '}'")
        if first in "{}:":
            raise ShellError("syntax error: bad substitution")
        name = self.name()
        modifier = self.next()
        if modifier == "}":
            value = self.lookup(name)
            if value is None:
                return f"${{{name}}}" if self.lex.skip_unset_env else ""
            return value
        if modifier == "/":
            return self.replace(name)
        if modifier == ":":
            return self.modify(name, self.next(), null_is_unset=True)
        if modifier and modifier in "+-?#%":
            return self.modify(name, modifier, null_is_unset=False)
        raise ShellError(f"unsupported modifier ({modifier or _EOF_TEXT}) in substitution")

    def operand(self, stop: str, raw_escapes: bool, missing: str) -> str:
        try:
            return self.process_until(stop, raw_escapes, None)
        except ShellError:
            if not self.peek():
                raise ShellError(missing) from None
            raise

    def modify(self, name: str, modifier: str, *, null_is_unset: bool) -> str:
        written = f":{modifier or _EOF_TEXT}" if null_is_unset else modifier
        cuts = modifier in ("#", "%")
        if cuts and null_is_unset:
            raise ShellError(f"unsupported modifier ({written}) in substitution")
        word = self.operand("}", cuts, "syntax error: missing '}'")
        value = self.lookup(name)
        if value is None and self.lex.skip_unset_env:
            return f"${{{name}{written}{word}}}"
        absent = not value if null_is_unset else value is None
        if modifier == "-":
            return word if absent else value or ""
        if modifier == "+":
            return "" if absent else word
        if modifier == "?":
            if absent:
                state = "unset" if value is None else "empty"
                raise ShellError(f"{name}: {word or f'is not allowed to be {state}'}")
            return value or ""
        if cuts:
            return _cut(modifier, word, value or "")
        raise ShellError(f"unsupported modifier ({written}) in substitution")

    def replace(self, name: str) -> str:
        replace_all = self.peek() == "/"
        if replace_all:
            self.pos += 1
        pattern = self.operand("/", True, "syntax error: missing '/' in ${}")
        replacement = self.operand("}", True, "syntax error: missing '}'")
        value = self.lookup(name)
        if value is None:
            if self.lex.skip_unset_env:
                return f"${{{name}/{pattern}/{replacement}}}"
            value = ""
        # Every match may give the whole replacement, and that the match for each $0 in it.
        if len(value) * (1 + len(replacement)) > MAX_TOTAL:
            raise ShellError(f"the result may have more than {MAX_TOTAL} characters")
        from frontend import shellpattern

        return shellpattern.replace(pattern, replacement, value, replace_all=replace_all)


def _cut(modifier: str, pattern: str, value: str) -> str:
    """``#`` and ``%``: doubled for the longest match."""
    from frontend import shellpattern  # needs re, which most builds do not

    longest = pattern.startswith(modifier)
    trim = shellpattern.trim_prefix if modifier == "#" else shellpattern.trim_suffix
    return trim(pattern[1:] if longest else pattern, value, longest=longest)

"""Symbolic modes: every row as chmod(1) has it, and the parser raises nothing but its own error."""

from __future__ import annotations

import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.ops.file.modes import BadModeError, parse_mode

F, D = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("644", F | 0o777, 0o644),
        ("7777", D, 0o7777),
        ("u+x", F | 0o644, 0o744),
        ("+x", F | 0o644, 0o755),
        ("a=r", F | 0o777, 0o444),
        ("go=", F | 0o777, 0o700),
        ("go-w", F | 0o666, 0o644),
        ("u=rwX,go=rX", F | 0o640, 0o644),
        ("u=rwX,go=rX", F | 0o710, 0o755),
        ("u=rwX,go=rX", D | 0o600, 0o755),
        ("go=u", F | 0o740, 0o777),
        ("go=u-w", F | 0o740, 0o755),
        ("u+s", F | 0o755, 0o4755),
        ("o+s", F | 0o755, 0o755),
        ("+t", D | 0o755, 0o1755),
        ("u=rw,u+x-r", F, 0o300),
        ("=", F | 0o6755, 0),
        ("=rw,+X", F | 0o755, 0o777),
        ("-X", F | 0o755, 0o644),
    ],
)
def test_table(text: str, before: int, after: int) -> None:
    assert oct(parse_mode(text)(before)) == oct(after)


@pytest.mark.parametrize("text", ["", "u", "u+,", ",u+x", "u+q", "x", "8", "10000", "u?x", "+x,", "64a", "u+x u"])
def test_refused(text: str) -> None:
    with pytest.raises(BadModeError):
        parse_mode(text)


@given(st.text("augorwxXst+-=,0178 ", max_size=12), st.integers(0, 0o7777), st.booleans())
def test_any_text_gives_bits_or_the_own_error(text: str, bits: int, folder: bool) -> None:
    try:
        rule = parse_mode(text)
    except BadModeError:
        return
    assert 0 <= rule((D if folder else F) | bits) <= 0o7777


CLAUSE = st.tuples(
    st.sampled_from(["u", "g", "o", "a", "ug", "go"]),
    st.sampled_from("+-="),
    st.sampled_from(["r", "w", "x", "rw", "rx", "rwx", "u", "g", "o", ""]),
).map("".join)


@given(st.lists(CLAUSE, min_size=1, max_size=3).map(",".join), st.integers(0, 0o777))
def test_the_common_part_is_chmods(text: str, bits: int) -> None:
    """Against an independent reading of POSIX' chmod."""
    assert parse_mode(text)(F | bits) == _posix(text, bits)


def _posix(text: str, bits: int) -> int:
    shift = {"u": 6, "g": 3, "o": 0}
    for clause in text.split(","):
        at = next(i for i, c in enumerate(clause) if c in "+-=")
        who, operator, perms = clause[:at].replace("a", "ugo"), clause[at], clause[at + 1 :]
        value = bits >> shift[perms] & 7 if perms in shift else sum({"r": 4, "w": 2, "x": 1}[c] for c in perms)
        for w in set(who):
            if operator == "+":
                bits |= value << shift[w]
            elif operator == "-":
                bits &= ~(value << shift[w])
            else:
                bits = bits & ~(7 << shift[w]) | value << shift[w]
    return bits


@pytest.mark.integration
@pytest.mark.parametrize("text", ["u+x", "go=u", "u=rwX,go=rX", "a-w", "g=o,o=u", "u+s,g+s"])
def test_the_same_as_the_systems_chmod(tmp_path: object, text: str) -> None:
    import os

    path = f"{tmp_path}/f"
    with open(path, "w"):
        pass
    for bits in (0o000, 0o640, 0o755, 0o711):
        os.chmod(path, bits)
        subprocess.run(["chmod", text, path], check=True)
        assert oct(stat.S_IMODE(os.stat(path).st_mode)) == oct(parse_mode(text)(F | bits))

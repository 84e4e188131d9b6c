"""Go's truth values and quoting."""

from __future__ import annotations

import pytest

from builder.text.quoting import quote
from builder.text.strconv import parse_bool, truth_of


def test_truth_values() -> None:
    assert [text for text in ("1", "t", "T", "TRUE", "true", "True", "tRUE", "yes", "0", "") if truth_of(text)] == [
        "1", "t", "T", "TRUE", "true", "True",
    ]  # fmt: skip
    assert [text for text in ("0", "f", "F", "FALSE", "false", "False", "no", "fALSE") if truth_of(text) is False] == [
        "0", "f", "F", "FALSE", "false", "False",
    ]  # fmt: skip
    assert parse_bool("t")
    assert not parse_bool("F")


@pytest.mark.parametrize("text", ["", "yes", "tRUE", " true"])
def test_what_is_no_truth_value_is_an_error_in_gos_words(text: str) -> None:
    assert truth_of(text) is None
    with pytest.raises(ValueError, match=r"strconv\.ParseBool: parsing") as error:
        parse_bool(text)
    assert str(error.value) == f'strconv.ParseBool: parsing "{text}": invalid syntax'


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a b", '"a b"'),
        ('"\\', '"\\"\\\\"'),
        ("\a\b\f\n\r\t\v\0\x1f\x7f", '"\\a\\b\\f\\n\\r\\t\\v\\x00\\x1f\\x7f"'),
        ("é☺\ufffd", '"é☺\ufffd"'),
        ("\x80\u2028\ufeff\ue000\U000e0001", '"\\u0080\\u2028\\ufeff\\ue000\\U000e0001"'),
        ("\udca9", '"\\xa9"'),
    ],
)
def test_quoting(text: str, quoted: str) -> None:
    assert quote(text) == quoted

"""RFC 3339 to nanoseconds and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.text.times import NS, format_rfc3339, parse_rfc3339


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T14:30:00-09:30", 0),
        ("2000-02-29T00:00:00Z", 951_782_400),
        ("1900-03-01T00:00:00Z", -2_203_891_200),
        ("0001-01-01T00:00:00Z", -62_135_596_800),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("2026-08-21t15:29:35z", 1_787_326_175),
    ],
)
def test_it_is_read(text: str, seconds: int) -> None:
    assert parse_rfc3339(text) == seconds * NS


def test_digits_of_the_second_are_kept() -> None:
    assert parse_rfc3339("1970-01-01T00:00:01.000000001Z") == NS + 1
    assert parse_rfc3339("1970-01-01T00:00:01.5+00:00") == 1_500_000_000
    assert parse_rfc3339("1970-01-01T00:00:00.1234567899Z") == 123_456_789
    assert format_rfc3339(1_500_000_000) == "1970-01-01T00:00:01.5Z"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (-60_000_000_000, "1969-12-31T23:59:00Z"), (1, "1970-01-01T00:00:00.000000001Z")],
)
def test_times_before_the_epoch_and_below_the_microsecond(nanoseconds: int, text: str) -> None:
    assert format_rfc3339(nanoseconds) == text


@given(st.integers(-62_135_596_800 * NS, 253_402_300_800 * NS - 1))
def test_what_is_written_is_read_again(ns: int) -> None:
    assert parse_rfc3339(format_rfc3339(ns)) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2020",
        "2020-02-30T00:00:00Z",
        "2021-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2020-00-01T00:00:00Z",
        "2020-01-00T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:60Z",
        "2020-01-01T00:00:00",
        "2020-01-01T00:00:00.Z",
        "2020-01-01 00:00:00Z",
        "2020-01-01T00:00:00+1:00",
        "2020-01-01T00:00:00+24:00",
        "2020-01-01T00:00:00Zx",
        "20२0-01-01T00:00:00Z",
        "+020-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        parse_rfc3339(text)

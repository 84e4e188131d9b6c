"""Go's path package: what each function says of the same paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.text.paths import base, clean, folder, join, rooted, split


@pytest.mark.parametrize(
    ("path", "cleaned", "last", "above"),
    [
        ("", ".", ".", "."),
        (".", ".", ".", "."),
        ("./", ".", ".", "."),
        ("/", "/", "/", "/"),
        ("//", "/", "/", "/"),
        ("//a", "/a", "a", "/"),
        ("///a//b/", "/a/b", "b", "/a/b"),
        ("a", "a", "a", "."),
        ("a/", "a", "a", "a"),
        ("/..", "/", "..", "/"),
        ("a/../..", "..", "..", "."),
        ("../a", "../a", "a", ".."),
        ("/a//b/.", "/a/b", ".", "/a/b"),
        ("a/b/..", "a", "..", "a/b"),
    ],
)
def test_clean_base_and_dir(path: str, cleaned: str, last: str, above: str) -> None:
    assert (clean(path), base(path), folder(path)) == (cleaned, last, above)


def test_join_does_not_drop_what_is_before_an_absolute_part() -> None:
    assert (join("/a", "/b"), join("", ""), join("a", "", "../b"), join("", "/")) == ("/a/b", "", "b", "/")


@given(st.text("ab./", max_size=12))
def test_a_rooted_path_is_clean_and_leads_no_higher(path: str) -> None:
    found = rooted(path)
    assert found == clean(found)
    assert found.startswith("/")
    assert ".." not in found.split("/")


@given(st.text("ab./", max_size=12))
def test_split_loses_nothing(path: str) -> None:
    above, name = split(path)
    assert above + name == path
    assert "/" not in name

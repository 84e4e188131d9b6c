"""The nearest word, by edit distance: what is put aside early could not have been it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.suggest import search

WORDS = st.text(alphabet="abC", max_size=8) | st.sampled_from(("RUN", "run", "copy", "COPPY", "argument1", "argument2"))


def distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, ch in enumerate(a, 1):
        row, above = [i], row
        for j, other in enumerate(b, 1):
            row.append(min(above[j - 1] + (ch != other), above[j] + 1, row[-1] + 1))
    return row[-1]


@given(WORDS, st.lists(WORDS, max_size=6))
def test_the_nearest_is_found_with_the_same_letters_first(value: str, options: list[str]) -> None:
    found = search(value, options)
    near = [o for o in options if distance(value, o) < 3]
    if value in options or not near:
        assert found == ""
    else:
        assert found == min(near, key=lambda o: (distance(value, o), sorted(o.lower()) != sorted(value.lower()), o))


@pytest.mark.parametrize(
    ("value", "found"), [("COPPY", "COPY"), ("coppy", "copy"), ("Rnu", "run"), ("run", ""), ("frobnicate", "")]
)
def test_casing_may_not_count_and_is_then_that_of_the_value(value: str, found: str) -> None:
    assert search(value, ("COPY", "RUN", "CMD"), case_sensitive=False) == found

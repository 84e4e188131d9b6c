"""JSON as Go writes it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.text import gojson


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": ["x", None, True]}, '{"b":1,"a":["x",null,true]}'),
        ("<a>&\u2028\u2029", '"\\u003ca\\u003e\\u0026\\u2028\\u2029"'),
        ("é☺\x7f\u0080\ufffd", '"é☺\x7f\u0080\ufffd"'),
        ('"\\\n\r\t\x01/', '"\\"\\\\\\n\\r\\t\\u0001/"'),
        ("a\udca9\udcffb", '"a\\ufffd\\ufffdb"'),
    ],
)
def test_what_go_writes(value: object, text: str) -> None:
    assert gojson.encode(value) == text.encode()


def test_indented_as_marshal_indent_does_it() -> None:
    assert gojson.encode({"a": ["<"], "b": {}, "c": []}, indent=2) == b'{\n  "a": [\n    "\\u003c"\n  ],\n  "b": {},\n  "c": []\n}'


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_it_is_read_again(value: object) -> None:
    assert json.loads(gojson.encode(value)) == value
    assert not set("<>&\u2028\u2029").intersection(gojson.text(value, indent=1))

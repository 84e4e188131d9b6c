"""JSON as Go writes it."""

from __future__ import annotations

from builder.text import gojson


def test_compact_and_indented_forms() -> None:
    assert gojson.encode({"a": [1, {}], "b": []}) == b'{"a":[1,{}],"b":[]}'
    assert gojson.encode({"a": [1]}, indent=2) == b'{\n  "a": [\n    1\n  ]\n}'


def test_what_html_and_javascript_could_take_amiss_is_escaped() -> None:
    assert gojson.encode("<&>\u2028\u2029é") == '"\\u003c\\u0026\\u003e\\u2028\\u2029é"'.encode()


def test_each_byte_that_is_no_utf8_is_a_replacement_character() -> None:
    assert gojson.encode(b"a\xff\xfe".decode(errors="surrogateescape")) == b'"a\\ufffd\\ufffd"'

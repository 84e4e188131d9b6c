"""The cache config document: BuildKit's, to the letter, and nothing else is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import IntegrityError
from builder.oci.digest import Digest
from builder.remotecache.config import (
    CacheConfig,
    CacheInput,
    CacheLayer,
    CacheResult,
    ChainedResult,
    ConfigRecord,
    order,
    parse,
    parse_records,
)
from builder.text.times import format_rfc3339, parse_rfc3339

A, B = Digest.of(b"a"), Digest.of(b"b")

# As buildkitd wrote it: parent 0 is left out, times are Go's, unused fields are not there.
BUILDKIT = (
    f'{{"layers":[{{"blob":"{A}","parent":-1}},{{"blob":"{B}"}}],'
    f'"records":[{{"digest":"{A}"}},'
    f'{{"layers":[{{"layer":1,"createdAt":"2026-08-21T15:29:35.123456789Z"}}],'
    f'"chains":[{{"layers":[1,0],"createdAt":"0001-01-01T00:00:00Z"}}],'
    f'"digest":"{B}","inputs":[[{{"selector":"sel","link":0}},{{"link":0}}]]}}]}}'
).encode()
PARSED = CacheConfig(
    (CacheLayer(A), CacheLayer(B, 0)),
    (
        ConfigRecord(A),
        ConfigRecord(
            B,
            ((CacheInput(0, "sel"), CacheInput(0)),),
            (CacheResult(1, 1787326175123456789),),
            (ChainedResult((1, 0)),),
        ),
    ),
)


def test_buildkits_document_is_read_and_written_byte_for_byte() -> None:
    assert parse(BUILDKIT) == PARSED
    assert PARSED.to_json() == BUILDKIT


def test_annotations_and_fields_of_later_versions_are_passed_over() -> None:
    doc = json.loads(BUILDKIT)
    doc["layers"][0]["annotations"] = {"mediaType": "x", "size": 1}
    doc["later"] = doc["records"][0]["later"] = [1]
    assert parse(json.dumps(doc).encode()) == PARSED


def test_an_empty_config_is_empty() -> None:
    assert parse(b"{}") == CacheConfig()
    assert CacheConfig().to_json() == b"{}"


def test_inline_records_stand_on_the_layers_of_the_image() -> None:
    assert parse_records(PARSED.records_json(), PARSED.layers) == PARSED


def place(kind: str, at: object) -> bytes:
    doc = json.loads(BUILDKIT)
    record = doc["records"][1]
    match kind:
        case "parent":
            doc["layers"][1]["parent"] = at
        case "layer":
            record["layers"][0]["layer"] = at
        case "chain":
            record["chains"][0]["layers"] = [at]
        case "link":
            record["inputs"][0][0]["link"] = at
    return json.dumps(doc).encode()


@pytest.mark.parametrize("kind", ["parent", "layer", "chain", "link"])
@pytest.mark.parametrize("at", [2, -2, 1 << 70, True, "0", 0.0, []])
def test_places_that_are_not_there_are_refused(kind: str, at: object) -> None:
    with pytest.raises(IntegrityError):
        parse(place(kind, at))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"layers":{}}',
        '{"layers":[{"blob":"../../etc"}]}',
        '{"layers":[1]}',
        '{"records":[{"digest":1}]}',
        '{"records":[{"digest":"d","inputs":[[]]}]}',
        '{"records":[{"digest":"d","layers":[{"createdAt":"yesterday"}]}]}',
        "[" * 100000,
    ],
)
def test_what_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        parse(text.encode())


def test_circles_are_found_however_long() -> None:
    n = 50_000
    assert order(n, lambda i: [i + 1] if i + 1 < n else [], "record") == list(reversed(range(n)))
    with pytest.raises(IntegrityError, match="looping"):
        order(n, lambda i: [(i + 1) % n], "record")


@given(st.dictionaries(st.integers(0, 30), st.sets(st.integers(0, 30))))
def test_everything_comes_after_what_is_below_it(graph: dict[int, set[int]]) -> None:
    below = [sorted(b for b in graph.get(i, ()) if b < i) for i in range(31)]
    out = order(31, lambda i: below[i], "record")
    assert sorted(out) == list(range(31))
    assert all(out.index(b) < out.index(i) for i in out for b in below[i])


@given(st.integers(10**18, 4 * 10**18))
def test_times_keep_their_nanoseconds(ns: int) -> None:
    """On the way machine -> annotation -> machine: they are part of images."""
    assert parse_rfc3339(format_rfc3339(ns)) == ns

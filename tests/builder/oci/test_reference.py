"""References, digests and times: parse, print, compare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.oci.digest import Digest, chain_id, digest_parts, framed
from builder.oci.reference import Reference
from builder.text.times import format_rfc3339, parse_rfc3339

SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("moby/buildkit", "docker.io/moby/buildkit", "moby/buildkit"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
        ("reg.example/app@" + SHA, "reg.example/app@" + SHA, "reg.example/app@" + SHA),
        ("busybox:1@" + SHA, "docker.io/library/busybox:1@" + SHA, "busybox:1@" + SHA),
        ("a/b__c-d.e", "docker.io/a/b__c-d.e", "a/b__c-d.e"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
    ],
)
def test_a_reference_is_normalized_and_has_a_short_form(text: str, full: str, familiar: str) -> None:
    ref = Reference.parse(text)
    assert str(ref) == full
    assert ref.familiar == familiar
    assert Reference.parse(full) == ref


@pytest.mark.parametrize(
    "text", ["", "Busybox", "a/B", "a b", "app:", "app:a b", "app@sha256:12", "-a", "a//b", "a..b", "a___b", "x:y/z"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        Reference.parse(text)


def test_latest_is_added_only_where_nothing_is_said() -> None:
    assert Reference.parse("a").with_default_tag().tag == "latest"
    assert Reference.parse("a:1").with_default_tag().tag == "1"
    assert Reference.parse("a@" + SHA).with_default_tag().tag == ""


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_value_error(text: str) -> None:
    try:
        ref = Reference.parse(text)
    except ValueError:
        return
    assert Reference.parse(str(ref)) == ref
    assert Reference.parse(ref.familiar) == ref


@pytest.mark.parametrize("text", ["sha256:12", "md5:" + "0" * 32, "sha256", "sha256:" + "G" * 64, "sha512:" + "0" * 64])
def test_a_digest_has_a_known_algorithm_and_its_length(text: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        Digest.parse(text)


def test_chain_id_is_that_of_the_image_spec() -> None:
    a, b = Digest.of(b"a"), Digest.of(b"b")
    assert chain_id([a]) == a
    assert chain_id([a, b]) == Digest.of(f"{a} {b}".encode())


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.binary(max_size=12), max_size=6))
def test_no_two_sequences_of_parts_share_bytes(left: list[bytes], right: list[bytes]) -> None:
    assert (framed(*left) == framed(*right)) == (left == right)
    assert (digest_parts(*left) == digest_parts(*right)) == (left == right)


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_times_survive_being_printed(ns: int) -> None:
    assert parse_rfc3339(format_rfc3339(ns)) == ns


def test_times_with_offsets_are_the_same_instant() -> None:
    assert parse_rfc3339("2026-08-21T17:29:35.5+02:00") == parse_rfc3339("2026-08-21T15:29:35.5Z")


@pytest.mark.parametrize("text", ["", "2026", "2026-08-21T17:29:35", "2026-08-21T17:29:35+2", "yesterday at noon, Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_rfc3339(text)

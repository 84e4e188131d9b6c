"""References, digests and times: parse, print, compare."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
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
        ("[fd00::1]/a/b:1", "[fd00::1]/a/b:1", "[fd00::1]/a/b:1"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("library/a", "docker.io/library/a", "a"),
        ("Reg/app", "Reg/app", "Reg/app"),
        ("busybox:1/a", "busybox:1/a", "busybox:1/a"),
        ("a_b.c/d", "a_b.c/d", "a_b.c/d"),
        ("a--b/c", "docker.io/a--b/c", "a--b/c"),
        ("app:" + "t" * 128, "docker.io/library/app:" + "t" * 128, "app:" + "t" * 128),
        ("reg.example/" + "a" * 255, "reg.example/" + "a" * 255, "reg.example/" + "a" * 255),
        ("f" * 63, "docker.io/library/" + "f" * 63, "f" * 63),
    ],
)
def test_a_reference_is_normalized_and_has_a_short_form(text: str, full: str, familiar: str) -> None:
    ref = Reference.parse(text)
    assert str(ref) == full
    assert ref.familiar == familiar
    assert Reference.parse(full) == ref


FORMAT = "invalid reference format"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        *((text, FORMAT) for text in ("", "a b", "app:", "app:a b", "-a", "a-", "a//b", "/a", "a/", "a..b", "a.-b", "a___b")),
        *((text, FORMAT) for text in ("a.b:/c", "a.b:5x/c", "a_b.c:5000/d", "-a.b/c", "a..b/c", ":5000/a", "./a", "x:y/z")),
        *((text, FORMAT) for text in ("[::1/a", "[]/a", "[::1]x/a", "[::1]:/a", "[::ffff:1.2.3.4]/a", "[fe80::1%eth0]/a", "::1/a")),
        *((text, FORMAT) for text in ("app@", "app@sha256:12", "app@sha256", "app@@sha256:" + "0" * 64, "app@1a:" + "0" * 64)),
        ("app:" + "t" * 129, FORMAT),
        ("Busybox", f"{FORMAT}: repository name (library/Busybox) must be lowercase"),
        ("a/B:C", f"{FORMAT}: repository name (a/B) must be lowercase"),
        ("Foo_bar/x", "repository name must be lowercase"),
        ("b" * 64, f"invalid repository name ({'b' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("reg.example/" + "a" * 256, "repository name must not be more than 255 characters"),
        ("app@md5:" + "0" * 32, "unsupported digest algorithm"),
        ("app@sha256:" + "0" * 63, "invalid checksum digest length"),
    ],
)
def test_what_is_no_reference_is_refused_in_dockers_words(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(cause)}"):
        Reference.parse(text)


# distribution/reference's own expressions (regexp.go), to compare with.
_COMPONENT = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_DNS = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DNS}(?:\.{_DNS})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_NAME = rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
GRAMMAR = re.compile(rf"({_NAME})(?::([a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}}))?(?:@({_DIGEST}))?")


def grammar_takes(text: str) -> bool:
    """ParseNormalizedNamed, up to the digest's own rules."""
    if re.fullmatch("[a-f0-9]{64}", text):
        return False
    head, slash, tail = text.partition("/")
    if not slash:
        head, tail = "docker.io", f"library/{text}"
    elif not (head == "localhost" or "." in head or ":" in head or head.lower() != head):
        head, tail = "docker.io", text
    elif head == "index.docker.io":
        head = "docker.io"
    if head == "docker.io" and "/" not in tail:
        tail = f"library/{tail}"
    remote = tail.partition(":")[0]
    return remote == remote.lower() and GRAMMAR.fullmatch(f"{head}/{tail}") is not None


PIECES = st.sampled_from(
    (
        "a", "b1", "A", "docker.io", "index.docker.io", "localhost", "library", "/", "/", ":", ":", "@", ".", "_", "-", "[", "]",
        "::1", "5000", "[::1]", "x.y", "sha256:" + "0" * 64, "sha256:", "0" * 32, "a" * 64, "é", " ", "%", "tag",
    )
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map("".join))
def test_what_is_taken_is_what_the_grammar_takes(text: str) -> None:
    ref, error = None, ""
    try:
        ref = Reference.parse(text)
    except ValueError as e:
        error = str(e)
    assume("digest" not in error and "255 characters" not in error)  # rules beyond the grammar
    assert grammar_takes(text) == (ref is not None), error
    if ref is None:
        return
    assert Reference.parse(str(ref)) == ref
    assert Reference.parse(ref.familiar) == ref


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

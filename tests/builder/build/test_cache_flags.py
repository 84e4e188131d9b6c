"""--cache-from and --cache-to: what is understood, and what is refused by name."""

from __future__ import annotations

import os

import pytest

from builder.build.flags import parse_cache_from, parse_cache_to
from builder.content.types import Compression
from builder.errors import PybuildError, UnsupportedError
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.remotecache.types import CacheExport, LocalPlace, Place, RegistryPlace

DIGEST = Digest.of(b"")


def registry(text: str) -> RegistryPlace:
    return RegistryPlace(Reference.parse(text).with_default_tag())


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("user/app:cache", (registry("user/app:cache"),)),
        ("user/app,host:5000/b", (registry("user/app"), registry("host:5000/b"))),
        ("type=registry,ref=user/app", (registry("docker.io/user/app:latest"),)),
        ("type=local,src=/c", (LocalPlace("/c", "latest"),)),
        ("type=local,src=c,tag=t", (LocalPlace(os.path.abspath("c"), "t"),)),
        (f"type=local,src=/c,digest={DIGEST}", (LocalPlace("/c", "latest", DIGEST),)),
    ],
)
def test_imports_are_spelled_as_in_buildx(text: str, places: tuple[Place, ...]) -> None:
    assert parse_cache_from([text]) == places


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("user/app:c", CacheExport(registry("user/app:c"))),
        ("type=registry,ref=a/b,mode=max,ignore-error=true", CacheExport(registry("a/b"), "max", True)),
        ("type=local,dest=/c", CacheExport(LocalPlace("/c"))),
        ("type=local,dest=/c,image-manifest=false,reset=true", CacheExport(LocalPlace("/c"), image_manifest=False, reset=True)),
        (
            "type=local,dest=/c,compression=zstd,compression-level=3,force-compression=true",
            CacheExport(LocalPlace("/c"), compression=Compression("zstd", 3, True)),
        ),
        (
            "type=local,dest=/c,oci-mediatypes=false",
            CacheExport(LocalPlace("/c"), image_manifest=False, compression=Compression(oci_media_types=False)),
        ),
        ("type=inline", CacheExport(None)),
    ],
)
def test_exports_are_spelled_as_in_buildx(text: str, spec: CacheExport) -> None:
    assert parse_cache_to([text], {}) == (spec,)


@pytest.mark.parametrize("value", ["1", "true"])
def test_the_build_arg_asks_for_an_inline_cache(value: str) -> None:
    assert parse_cache_to([], {"BUILDKIT_INLINE_CACHE": value}) == (CacheExport(None),)
    assert parse_cache_to(["type=inline"], {"BUILDKIT_INLINE_CACHE": value}) == (CacheExport(None),)
    assert parse_cache_to([], {"BUILDKIT_INLINE_CACHE": "0"}) == ()


@pytest.mark.parametrize("kind", ["gha", "s3", "azblob"])
def test_other_places_are_refused_by_name(kind: str) -> None:
    for parse in (parse_cache_from, lambda v: parse_cache_to(v, {})):
        with pytest.raises(UnsupportedError, match=f"type={kind}"):
            parse([f"type={kind},name=x"])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("type=registry", "requires ref"),
        ("type=registry,ref=UPPER", "invalid reference"),
        ("type=local", "requires src"),
        ("type=local,src=/c,bogus=1", "bogus"),
        ("type=local,src=/c,digest=sha256:short", "digest"),
        ("type=bogus", "bogus"),
        ("type=inline", "inline"),
        ("ref=x", "type required"),
        ("type=local,src", "invalid value src"),
        ("type=registry,ref=a/b,registry.insecure=true", "registry.insecure"),
    ],
)
def test_wrong_imports_say_what_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(PybuildError, match=cause):
        parse_cache_from([text])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("type=local", "requires dest"),
        ("type=local,dest=/c,mode=mid", "unknown mode"),
        ("type=local,dest=/c,ignore-error=maybe", "ignore-error"),
        ("type=local,dest=/c,compression=estargz", "estargz"),
        ("type=local,dest=/c,compression=lz4", "lz4"),
        ("type=local,dest=/c,compression=zstd,oci-mediatypes=false", "zstd"),
        ("type=local,dest=/c,image-manifest=true,oci-mediatypes=false", "image-manifest"),
        ("type=registry,ref=a/b,dest=/c", "dest"),
        ("type=inline,mode=max", "mode=min only"),
        ("type=inline,ref=a/b", "ref"),
    ],
)
def test_wrong_exports_say_what_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(PybuildError, match=cause):
        parse_cache_to([text], {})


def test_an_empty_value_is_none() -> None:
    """``--cache-from "$CACHE"`` where the variable is not set."""
    assert parse_cache_from(["", "a/b"]) == (registry("a/b"),)
    assert parse_cache_to([""], {}) == ()

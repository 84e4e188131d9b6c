"""Annotations: how they are spelled, where they go, what is refused (buildx, BuildKit)."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.exporters.annotations import AnnotationKey, Annotations, parse_attribute, parse_flags
from builder.exporters.export import check_output
from builder.exporters.types import OutputSpec
from builder.oci.platform import Platform

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("k=v", {"annotation-manifest.k": "v"}),
        ("k=", {"annotation-manifest.k": ""}),
        ("k=a=b:c", {"annotation-manifest.k": "a=b:c"}),
        ("manifest:k=v", {"annotation-manifest.k": "v"}),
        ("index:k=v", {"annotation-index.k": "v"}),
        ("manifest:a:b=v", {"annotation-manifest.a:b": "v"}),
        ("manifest[linux/arm64]:k=v", {"annotation-manifest[linux/arm64].k": "v"}),
        ("manifest-descriptor[linux/arm/7]:k=v", {"annotation-manifest-descriptor[linux/arm/v7].k": "v"}),
        ("index[linux/arm64]:k=v", {"annotation-index.k": "v"}),
        (
            "manifest,manifest-descriptor[linux/amd64],index,index-descriptor:k=v",
            {
                "annotation-manifest.k": "v",
                "annotation-manifest-descriptor[linux/amd64].k": "v",
                "annotation-index.k": "v",
                "annotation-index-descriptor.k": "v",
            },
        ),
        ("", {}),
    ],
)
def test_the_flag_names_types_and_platforms(text: str, pairs: dict[str, str]) -> None:
    assert dict(parse_flags([text])) == pairs


def test_the_last_flag_of_a_key_wins() -> None:
    assert dict(parse_flags(["k=1", "manifest:k=2"])) == {"annotation-manifest.k": "2"}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("k", 'invalid annotation "k", expected key=value'),
        ("manifest:k", "expected key=value"),
        ("layer:k=v", 'unknown annotation type "layer"'),
        ("org.example:k=v", 'invalid annotation type "org.example"'),
        (":k=v", 'invalid annotation type ""'),
        ("manifest,:k=v", 'invalid annotation type ""'),
        ("manifest[]:k=v", "invalid annotation type"),
        ("manifest[bogus]:k=v", 'invalid platform "bogus"'),
        ("=v", "invalid annotation key"),
        ("manifest:=v", "invalid annotation key"),
        ("a b=v", "invalid annotation key"),
    ],
)
def test_a_wrong_flag_says_what_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_flags([text])
    assert cause in str(failure.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("annotation.k", AnnotationKey("manifest", "", "k")),
        ("annotation.org.example.k", AnnotationKey("manifest", "", "org.example.k")),
        ("annotation[linux/amd64].k", AnnotationKey("manifest", "linux/amd64", "k")),
        ("annotation-manifest.k", AnnotationKey("manifest", "", "k")),
        ("annotation-manifest-descriptor[linux/arm64].k", AnnotationKey("manifest-descriptor", "linux/arm64", "k")),
        ("annotation-index.k", AnnotationKey("index", "", "k")),
        ("annotation-index-descriptor.k", AnnotationKey("index-descriptor", "", "k")),
        ("annotation", None),
        ("annotation.", None),
        ("annotations.k", None),
        ("name", None),
    ],
)
def test_keys_of_an_output_name_types_and_platforms(text: str, key: AnnotationKey | None) -> None:
    assert parse_attribute(text) == key


@pytest.mark.parametrize("kind", ["oci", "docker", "image"])
@pytest.mark.parametrize(
    ("key", "cause"),
    [
        ("annotation-layer.k", "unrecognized annotation type layer"),
        ("annotation[bogus].k", 'invalid platform "bogus"'),
        ("annotations.k", "unknown option"),
    ],
)
def test_a_wrong_key_is_refused_before_the_build(kind: str, key: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        check_output(OutputSpec.parse(f"type={kind},dest=x,{key}=v"), multi=False)


def test_each_kind_goes_to_its_document() -> None:
    found = Annotations.of(
        [
            ("annotation.a", "1"),
            ("annotation-manifest-descriptor.b", "2"),
            ("annotation-index.c", "3"),
            ("annotation-index-descriptor.d", "4"),
            ("name", "x"),
        ]
    )
    assert found.get("manifest", AMD64) == (("a", "1"),)
    assert found.get("manifest-descriptor", AMD64) == (("b", "2"),)
    assert found.get("index") == (("c", "3"),)
    assert found.get("index-descriptor") == (("d", "4"),)


def test_what_is_said_of_a_platform_wins_over_what_is_said_of_all() -> None:
    found = Annotations.of([("annotation[linux/amd64].k", "amd64"), ("annotation.k", "all"), ("annotation.other", "x")])
    assert dict(found.get("manifest", AMD64)) == {"k": "amd64", "other": "x"}
    assert dict(found.get("manifest", ARM64)) == {"k": "all", "other": "x"}


def test_an_index_takes_those_of_every_platform() -> None:
    assert Annotations.of([("annotation-index[linux/amd64].k", "v")]).get("index") == (("k", "v"),)


@pytest.mark.parametrize(
    ("key", "multi", "oci", "cause"),
    [
        ("annotation-index.k", False, True, "index annotations not supported for single platform export"),
        ("annotation-index-descriptor.k", False, True, "index annotations not supported for single platform export"),
        ("annotation-index.k", True, False, "cannot export annotations with"),
        ("annotation-manifest-descriptor.k", False, False, "cannot export annotations with"),
        ("annotation[linux/s390x].k", True, True, "invalid annotation: no platform linux/s390x found in source"),
        ("annotation-index[linux/s390x].k", True, True, "no platform linux/s390x found"),
    ],
)
def test_what_has_no_document_is_refused(key: str, multi: bool, oci: bool, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        Annotations.of([(key, "v")]).check([AMD64, ARM64] if multi else [AMD64], multi=multi, oci=oci)


@pytest.mark.parametrize(
    ("key", "multi", "oci"),
    [
        ("annotation.k", False, False),
        ("annotation-manifest-descriptor.k", False, True),
        ("annotation[linux/s390x].k", False, True),
        ("annotation-index.k", True, True),
    ],
)
def test_what_buildkit_takes_is_taken(key: str, multi: bool, oci: bool) -> None:
    Annotations.of([(key, "v")]).check([AMD64], multi=multi, oci=oci)


def test_annotations_that_are_written_nowhere_are_known() -> None:
    assert Annotations.of([("annotation[linux/s390x].k", "v"), ("annotation.k", "v")]).missing([AMD64]) == ("linux/s390x",)

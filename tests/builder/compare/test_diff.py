"""Two images and what differs between them."""

from __future__ import annotations

from typing import Any

import pytest

from builder.compare.diff import ABSENT, Difference, diff
from builder.compare.image import File, Image, LayerNames, Step
from builder.values import replace

FILE = File("file", 0o644, 0, 0, 1_000_000_000, 3, "sha256:aa")


def image(**parts: Any) -> Image:
    given: dict[str, Any] = {"config": {}, "history": (), "layers": (), "files": {}}
    return Image(**(given | parts))


def only(left: Image, right: Image) -> Difference:
    (found,) = diff(left, right)
    return found


def test_equal_images_have_no_difference() -> None:
    same = image(config={"a": 1}, history=(Step("x"),), layers=(LayerNames("d", frozenset("/a")),), files={"/a": FILE})
    assert diff(same, same) == ()


def test_layers_with_other_digests_but_the_same_names_are_equal() -> None:
    left, right = (image(layers=(LayerNames(d, frozenset(["/a"])),)) for d in "12")
    assert diff(left, right) == ()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("type", "symlink", ("file", "symlink")),
        ("mode", 0o4755, ("0644", "4755")),
        ("uid", 5, ("0", "5")),
        ("gid", 6, ("0", "6")),
        ("mtime", 2_500_000_000, ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02.5Z")),
        ("size", 4, ("3", "4")),
        ("digest", "sha256:bb", ("sha256:aa", "sha256:bb")),
        ("link", "t", ("", "t")),
        ("device", (1, 3), ("null", "[1, 3]")),
        ("xattrs", (("user.a", "00"),), ("[]", '[["user.a", "00"]]')),
        ("same", "/b", ("", "/b")),
    ],
)
def test_every_field_of_a_file_counts(field: str, value: object, shown: tuple[str, str]) -> None:
    changed = replace(FILE, **{field: value})
    assert only(image(files={"/a": FILE}), image(files={"/a": changed})) == Difference("file", "/a", field, *shown, "file")


def test_a_file_that_one_side_lacks_is_one_difference() -> None:
    assert only(image(files={"/a": FILE}), image()) == Difference("file", "/a", "file", "file", ABSENT, "file")
    assert only(image(), image(files={"/a": FILE})) == Difference("file", "/a", "file", ABSENT, "file", "file")


def test_a_key_that_is_left_out_differs_from_null() -> None:
    assert only(image(config={"k": None}), image()) == Difference("config", "k", "value", "null", ABSENT)


def test_order_of_a_list_counts_and_of_keys_does_not() -> None:
    assert only(image(config={"e": ["a", "b"]}), image(config={"e": ["b", "a"]})).left == '["a", "b"]'
    assert diff(image(config={"e": [{"a": 1, "b": 2}]}), image(config={"e": [{"b": 2, "a": 1}]})) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("created_by", "RUN y"), ("comment", "c"), ("author", "me"), ("created", "2020-01-01T00:00:00Z"), ("empty_layer", True)],
)
def test_every_field_of_a_history_entry_counts(field: str, value: object) -> None:
    found = only(image(history=(Step("RUN x"),)), image(history=(replace(Step("RUN x"), **{field: value}),)))
    assert (found.area, found.subject, found.field) == ("history", "0", field)


def test_a_history_entry_more_is_a_difference() -> None:
    assert only(image(history=(Step("a"),)), image(history=(Step("a"), Step("b")))) == Difference(
        "history", "1", "entry", ABSENT, "b"
    )


def test_names_that_one_layer_lacks_and_layers_more_are_differences() -> None:
    left = image(layers=(LayerNames("1", frozenset(["/a", "/b"])), LayerNames("2", frozenset(["/c"]))))
    right = image(layers=(LayerNames("1", frozenset(["/a", "/.wh.x"])),))
    assert diff(left, right) == (
        Difference("layer", "0", "/.wh.x", ABSENT, "present"),
        Difference("layer", "0", "/b", "present", ABSENT),
        Difference("layer", "1", "layer", "/c", ABSENT),
    )

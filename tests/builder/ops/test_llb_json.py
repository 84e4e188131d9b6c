"""Digests of ops are BuildKit's: the constants were written by buildkitd into its cache manifest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.graph.ops import CacheMount, CopyAction, Exec, MkdirAction, MkfileAction, Mount, Owner, RmAction
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.ops.exec_key import cache_map_of
from builder.ops.llb_json import digest_of, file_digest, manifest_key, merge_digest, selector_of, source_digest, to_json
from builder.solver.cachekey import root_key

AMD64 = Platform("linux", "amd64")
ENV = ("PATH=/bin", "FROM_BASE=yes")


def record(digest: str) -> str:
    """The first digits of the record's digest."""
    return root_key(digest, 0).removeprefix("sha256:")[:12]


def shell(command: str, *mounts: Mount, **more: Any) -> Exec:
    return Exec(("/bin/sh", "-c", command), ENV, mounts=(Mount("/", 0, 0), *mounts), **more)


def test_an_image_is_known_by_its_manifest_and_by_its_chain() -> None:
    manifest = Digest("sha256:f09ad0fb9f12531dea5790edcc14da49c43bdc74de4aefdf6ab38a34bf9b6674")
    assert record(source_digest(manifest_key(manifest, AMD64))) == "2701520d56bc"
    chain = "sha256:4f1f518a6f411f28526f753ac1c3d56753ee3ccf6cc932cc95c4be38fd424d2f"
    assert record(source_digest(chain)) == "78d90ee88be5"


def test_a_step() -> None:
    assert record(cache_map_of(shell("echo made > /made"), 1, AMD64).digest) == "7a1c5bfe578f"


def test_a_step_with_mounts() -> None:
    mounts = (Mount("/b", 1, -1, "/b", readonly=True), Mount("/c", -1, -1, special=CacheMount("//c")))
    step = shell("ls /b /c > /l", *mounts, cwd="/srv")
    step = Exec(step.args, (*ENV, "X=1"), "/srv", mounts=step.mounts)
    cache_map = cache_map_of(step, 2, AMD64)
    assert record(cache_map.digest) == "15107cd203df"
    assert cache_map.deps[0].selector == selector_of(["/"])


def test_a_working_directory() -> None:
    action = MkdirAction(0, 0, "/srv", make_parents=True)
    assert record(str(file_digest([action], [0]))) == "4a631d44bee2"


def test_a_copy_and_a_merge() -> None:
    action = CopyAction(
        0, 1, 0, "made", "/srv/", create_dest_path=True, dir_copy_contents=True, allow_wildcard=True,
        allow_empty_wildcard=True, follow_symlink=True,
    )  # fmt: skip
    assert record(str(file_digest([action], [0]))) == "582ca123412a"
    assert record(merge_digest(2)) == "5dbfbafede47"


def test_text_that_is_no_utf8_has_no_digest_of_buildkit() -> None:
    """Go would write one character for all such bytes; then a key of our own is used, and the steps differ."""
    one, two = (shell(b"echo \xff".decode(errors="surrogateescape") + x) for x in ("", "\udcfe"))
    assert to_json({"a": "\udcff"}) is None
    assert cache_map_of(one, 1, AMD64).digest != cache_map_of(two, 1, AMD64).digest


def test_go_escapes_what_html_could_take_for_its_own() -> None:
    assert to_json({"a": '<&>"\n\x01\u2028é'}) == b'{"a":"\\u003c\\u0026\\u003e\\"\\n\\u0001\\u2028\xc3\xa9"}'


@pytest.mark.parametrize(
    "actions",
    [
        [MkdirAction(0, 0, "/a"), MkfileAction(0, 0, "/a", b"", 0o755)],
        [RmAction(0, 0, "/a"), MkdirAction(0, 0, "/a", 0)],
    ],
)
def test_actions_that_would_look_alike_have_none(actions: list[Any]) -> None:
    """BuildKit's JSON of an action does not say of what kind it is."""
    assert [file_digest([a], [0]) for a in actions] == [None, None]


def test_owners_and_where_they_are_looked_up_count() -> None:
    def copy(owner: Owner | None, base: int = 0) -> Digest | None:
        return file_digest([CopyAction(0, 1, 0, "a", "/", owner=owner)], [base])

    owners = [
        None,
        Owner(0),
        Owner(0, 0),
        Owner(1),
        Owner("1"),
        Owner("root"),
        Owner("root", "root"),
        Owner("root", 0),
        Owner(None, 0),
    ]
    digests = [copy(owner) for owner in owners] + [copy(Owner("root"), 1)]
    assert None not in digests
    assert len(set(digests)) == len(digests)


VALUES = st.recursive(st.text() | st.integers(0, 9) | st.booleans(), lambda x: st.lists(x, max_size=3), max_leaves=6)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
def test_different_values_have_different_digests(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (repr(list(a.items())) == repr(list(b.items()))) == (digest_of(a) == digest_of(b))

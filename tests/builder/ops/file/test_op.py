"""Keys of a FileOp, its errors, and copying from a context that is read in place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from builder.errors import CancelledError, StepError
from builder.files.tree import ChangedError
from builder.files.types import ChecksumOptions
from builder.graph.ops import CopyAction, File, MkdirAction, MkfileAction, Owner, RmAction, SymlinkAction
from builder.graph.vertex import Vertex
from builder.ops.file.op import Selection, dedupe
from builder.solver.types import OpContext
from builder.sources.local import LocalRef
from builder.state.cancel import scope
from builder.text.quoting import quote
from builder.values import replace

CONTEXT: Any = OpContext(None)  # type: ignore[arg-type]
COPY = CopyAction(0, 1, 0, "/dir/a", "/x", follow_symlink=True)


def key(kit: Any, *actions: Any, inputs: int = 2) -> str:
    return str(kit.op(*actions, inputs=inputs).cache_map(CONTEXT, 0)[0].digest)


ACTIONS = [
    COPY,
    replace(COPY, src="/dir/b"),
    replace(COPY, dest="/y"),
    replace(COPY, mode=0o644),
    replace(COPY, mode_text="u+x"),
    replace(COPY, owner=Owner(1)),
    replace(COPY, owner=Owner("1")),
    replace(COPY, owner=Owner(1, 2)),
    replace(COPY, exclude=("a", "b")),
    replace(COPY, exclude=("ab",)),
    replace(COPY, include=("ab",)),
    replace(COPY, timestamp=5),
    replace(COPY, always_replace=True),
    replace(COPY, attempt_unpack=True),
    replace(COPY, input=1, secondary=0),
    MkdirAction(0, 0, "/x"),
    MkfileAction(0, 0, "/x", b""),
    SymlinkAction(0, 0, "/x", "/y"),
    RmAction(0, 0, "/x"),
]


def test_every_field_of_an_action_is_part_of_the_key(kit: Any) -> None:
    assert len({key(kit, a) for a in ACTIONS}) == len(ACTIONS)


def test_where_a_source_lies_is_not_but_its_last_name_is(kit: Any) -> None:
    assert key(kit, COPY) == key(kit, replace(COPY, src="/other/a")) == key(kit, replace(COPY, src="a/"))


def test_the_input_that_is_written_to_has_no_content_key_the_others_have_one_each(kit: Any) -> None:
    (cache_map, last) = kit.op(COPY, inputs=2).cache_map(CONTEXT, 0)
    assert last
    assert cache_map.deps[0].content is None
    assert cache_map.deps[1].content is not None
    assert cache_map.deps[1].selector
    other = kit.op(replace(COPY, src="/other/a"), inputs=2).cache_map(CONTEXT, 0)[0]
    assert other.deps[1].selector != cache_map.deps[1].selector


def test_the_content_key_hears_of_nothing_but_what_is_copied(kit: Any) -> None:
    ref = kit.ref({"dir/a": "A", "dir/b": "B"})

    def content() -> str:
        return str(kit.op(COPY, inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content(ref, CONTEXT))

    before = content()
    with open(ref.folder + "/dir/b", "w") as f:
        f.write("changed")
    assert content() == before
    with open(ref.folder + "/dir/a", "w") as f:
        f.write("changed")
    assert content() != before


def test_paths_below_others_add_nothing() -> None:
    def plain(path: str, follow: bool = True) -> Selection:
        return Selection(path, ChecksumOptions(follow_links=follow))

    wild = Selection("/a/b/*", ChecksumOptions(wildcard=True))
    assert dedupe([plain("/a/b"), plain("/a"), plain("/ab"), plain("/a"), plain("/a/b", False), wild]) == (
        plain("/a"),
        plain("/a/b", False),
        wild,
        plain("/ab"),
    )


def test_a_missing_file_is_named_with_the_nearest_match(kit: Any) -> None:
    ref = kit.ref({"dir/package.json": "{}", "dir/other": ""})
    content = kit.op(replace(COPY, src="/dir/pakage.json"), inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content
    with pytest.raises(StepError) as error:
        content(ref, CONTEXT)
    assert str(error.value) == f'failed to calculate checksum of ref {ref.id}: "/dir/pakage.json": not found'
    assert error.value.hint == 'did you mean "/dir/package.json"?'


def test_of_a_link_that_leads_nowhere_is_said_where_it_leads(kit: Any) -> None:
    ref = kit.ref({})
    os.symlink("/nowhere", os.path.join(ref.folder, "link"))
    content = kit.op(replace(COPY, src="/link"), inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content
    with pytest.raises(StepError, match='"/link": not found') as error:
        content(ref, CONTEXT)
    assert error.value.hint == '"/link" is a link to "/nowhere", which is not there'


def test_a_file_that_dockerignore_leaves_out_is_said_to_be(kit: Any) -> None:
    ref = LocalRef.open("context", kit.ref({"dir/a": "A"}).folder, ("dir",), kit.worker)
    content = kit.op(COPY, inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content
    with pytest.raises(StepError, match='"/dir/a": not found') as error:
        content(ref, CONTEXT)
    assert error.value.hint == '"/dir/a" is excluded by .dockerignore'


def test_a_malformed_wildcard_is_an_error_of_the_step(kit: Any) -> None:
    content = kit.op(replace(COPY, src="/[a", allow_wildcard=True), inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content
    with pytest.raises(StepError, match="syntax error in pattern"):
        content(kit.ref({}), CONTEXT)


@pytest.mark.parametrize("kind", ["include", "exclude"])
def test_an_error_names_the_malformed_pattern_among_others(kind: str, kit: Any) -> None:
    for pattern, verb in (("a[b", "invalid"), ("\\q", "failed to match")):
        action = replace(COPY, src="/", **{kind: ("x", pattern, "y")})
        content = kit.op(action, inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content
        with pytest.raises(StepError, match=re.escape(f"{verb} {kind}patterns: pattern {quote(pattern)}: syntax error in pattern")):
            content(kit.ref({"z": ""}), CONTEXT)


def test_a_missing_required_path(kit: Any) -> None:
    action = replace(COPY, src="/", include=("x/y",), required_paths=("/x/y",))
    content = kit.op(action, inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content
    with pytest.raises(StepError, match='"/x/y": not found'):
        content(kit.ref({"x/z": ""}), CONTEXT)


# ------------------------------------------------------------------------------------------------ from a context
def local(kit: Any, spec: Any, *exclude: str) -> LocalRef:
    return LocalRef.open("context", kit.ref(spec).folder, exclude, kit.worker)


def test_copy_from_a_context_takes_what_dockerignore_leaves(kit: Any) -> None:
    action = CopyAction(0, 1, 0, "/", "/x", dir_copy_contents=True, create_dest_path=True)
    context = local(kit, {"a": "A", "b": "B", "d/keep": "K", "d/drop": "D", "e/f": "F"}, "b", "d", "!d/keep", "e")
    assert kit.run(action, inputs=[kit.ref({}), context]) == [
        {"x": "d* 755", "x/a": "f 644 A", "x/d": "d 755", "x/d/keep": "f 644 K"}
    ]
    assert not any("source.local" in entry for entry in kit.worker.cache.log)


def test_a_wildcard_does_not_see_what_is_left_out(kit: Any) -> None:
    action = CopyAction(0, 1, 0, "/*", "/x/", create_dest_path=True, allow_wildcard=True)
    assert kit.run(action, inputs=[kit.ref({}), local(kit, {"a": "A", "b": "B"}, "b")]) == [{"x": "d* 755", "x/a": "f 644 A"}]


def test_a_file_that_changed_since_it_was_hashed_is_an_error(kit: Any) -> None:
    context = local(kit, {"dir/a": "A"})
    kit.op(COPY, inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content(context, CONTEXT)
    with open(kit.base + "/in1/dir/a", "a") as f:
        f.write("more")
    with pytest.raises(ChangedError):
        kit.run(COPY, inputs=[kit.ref({}), context])
    assert kit.worker.cache.log[-1] == "release ref0"


def test_a_file_that_came_since_is_not_copied(kit: Any) -> None:
    action = CopyAction(0, 1, 0, "/", "/", dir_copy_contents=True)
    context = local(kit, {"a": "A"})
    kit.op(action, inputs=2).cache_map(CONTEXT, 0)[0].deps[1].content(context, CONTEXT)
    with open(kit.base + "/in1/new", "w") as f:
        f.write("new")
    assert kit.run(action, inputs=[kit.ref({}), context]) == [{"a": "f 644 A"}]


def test_a_context_can_be_written_to_as_a_copy(kit: Any) -> None:
    assert kit.run(MkfileAction(0, 0, "/n", b"N"), inputs=[local(kit, {"a": "A", "b": "B"}, "b")]) == [
        {"a": "f 644 A", "n": "f* 644 N"}
    ]
    assert sorted(os.listdir(kit.base + "/in1")) == ["a", "b"]


def test_a_cancelled_copy_stops(kit: Any) -> None:
    context = OpContext(Vertex(File(())))
    context.cancelled.set()
    with pytest.raises(CancelledError), scope(context.cancelled):
        kit.op(COPY, inputs=2).exec(context, [kit.ref({}), kit.ref({"dir/a": "A"})])
    assert kit.worker.cache.log[-1] == "release ref0"


# ------------------------------------------------------------------------------------------------ a hostile root
FLIPPER = """
import os, sys
real, parked, outside = sys.argv[1:]
print("flipping", flush=True)
while True:
    os.rename(real, parked)
    os.symlink(outside, real)
    os.unlink(real)
    os.rename(parked, real)
    for _ in range(60):
        os.stat(real)  # there long enough to be read at times
"""


def test_a_destination_folder_that_is_swapped_for_a_link_gets_nothing_out(kit: Any, tmp_path: Any) -> None:
    from builder.files.tree import Tree
    from builder.ops.file import actions
    from builder.ops.file.dest import Destination

    root, outside = str(tmp_path / "root"), str(tmp_path / "outside")
    os.makedirs(root + "/d/sub")
    shutil.copytree(root + "/d", outside)
    source = kit.ref({"s/sub/f": "F", "s/g": "G"}).folder
    action = CopyAction(0, 1, 0, "/s", "/d/", dir_copy_contents=True, create_dest_path=True)
    done = 0
    with subprocess.Popen(
        [sys.executable, "-c", FLIPPER, root + "/d", root + "/parked", outside], stdout=subprocess.PIPE
    ) as flipper:
        try:
            assert flipper.stdout is not None
            flipper.stdout.readline()
            for i in range(100_000):  # as many as it takes on a busy machine
                if i >= 300 and done:
                    break
                with Tree(source) as tree, Destination(root) as dest:
                    try:
                        actions.copy(dest, tree, action, None)
                        actions.mkfile(dest, MkfileAction(0, 0, f"/d/n{i}", b"N"), None)
                        actions.rm(dest, RmAction(0, 0, "/d/sub/f"))
                        done += 1
                    except (StepError, OSError):
                        continue
        finally:
            flipper.kill()
    assert done, "the race was never won: this shows nothing"
    assert os.listdir(outside) == ["sub"]
    assert os.listdir(outside + "/sub") == []

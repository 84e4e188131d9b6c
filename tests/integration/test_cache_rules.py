"""What a build runs again, and what it does not: by stages, by content, by flags."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.values import replace
from tests.integration.test_cached_rebuild import Watched
from tests.support.cli import Done, Pybuild
from tests.support.oci import Entry, layer_tar, read_image, write_layout

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]

STAGES = """FROM base AS one
RUN echo same > /same ; cat /proc/sys/kernel/random/uuid > /new
FROM base AS two
RUN echo two > /two
FROM base AS last
COPY --from=one /{what} /from-one
COPY --from=two /two /
RUN cat /from-one /two > /both
"""


@pytest.fixture
def build(pybuild: Pybuild, busybox_layout: str) -> Callable[..., Done]:
    """Builds a context on the busybox base."""
    return lambda folder, *flags: pybuild.ok(
        "-o", "type=cacheonly", "--build-context", f"base=oci-layout://{busybox_layout}", *flags, folder
    )


def ran(done: Done) -> list[str]:
    """Stage and first words of what was not cached, in the order of the Dockerfile."""
    names = (name.removeprefix("[").replace("]", "").split() for name in done.not_cached())
    return sorted(" ".join([words[0], *words[2:5]]) for words in names)


# ------------------------------------------------------------------------------------------------ flags
def test_no_cache_filter_runs_its_stage_and_consumers_of_what_came_out_different(
    build: Callable[..., Done], context: Context
) -> None:
    same, new = (context({"Dockerfile": STAGES.format(what=what)}) for what in ("same", "new"))
    build(same)
    assert ran(build(same, "--no-cache-filter", "one")) == ["one RUN echo same"]
    assert ran(build(same, "--no-cache-filter", "ONE")) == ["one RUN echo same"], "names of stages know no case"
    build(new)
    assert ran(build(new, "--no-cache-filter=one")) == [
        "last COPY --from=one /new", "last COPY --from=two /two", "last RUN cat /from-one", "one RUN echo same",
    ]  # fmt: skip
    assert ran(build(new, "--no-cache-filter", "two,last")) == [
        "last COPY --from=one /new", "last COPY --from=two /two", "last RUN cat /from-one", "two RUN echo two",
    ]  # fmt: skip


def test_what_was_run_by_force_is_what_the_next_build_finds(build: Callable[..., Done], context: Context) -> None:
    folder = context({"Dockerfile": STAGES.format(what="new")})
    build(folder)
    build(folder, "--no-cache-filter", "one")
    assert ran(build(folder)) == []


def test_no_cache_runs_every_step_once_and_what_it_stored_hits(build: Callable[..., Done], context: Context) -> None:
    folder = context({"Dockerfile": STAGES.format(what="same")})
    build(folder)
    assert len(ran(build(folder, "--no-cache"))) == 5
    assert ran(build(folder)) == []


def test_a_filter_of_no_stage_and_of_a_stage_that_is_not_needed_changes_nothing(
    build: Callable[..., Done], context: Context
) -> None:
    folder = context({"Dockerfile": STAGES.format(what="same")})
    build(folder, "--target", "two")
    assert ran(build(folder, "--target", "two", "--no-cache-filter", "one,three")) == []


def test_ignoring_the_cache_is_a_property_of_the_vertex_and_not_of_its_key(pybuild: Pybuild, context: Context) -> None:
    folder = context(
        {"Dockerfile": "FROM scratch AS a\nCOPY Dockerfile /x\nFROM scratch\nCOPY --from=a /x /\nCOPY Dockerfile /y\n"}
    )

    def copies(*flags: str) -> dict[str, tuple[str, bool]]:
        vertices = json.loads(pybuild.ok("graph", *flags, folder).out)["vertices"]
        found = {v["meta"]["name"]: (v["digest"], bool(v["meta"].get("ignore_cache"))) for v in vertices}
        return {name: about for name, about in found.items() if "COPY" in name}

    plain, filtered = copies(), copies("--no-cache-filter", "a")
    assert {name: digest for name, (digest, _) in plain.items()} == {name: digest for name, (digest, _) in filtered.items()}
    assert not any(ignored for _, ignored in plain.values())
    assert [name.split("]")[0] for name, (_, ignored) in filtered.items() if ignored] == ["[a 1/1"]


# ------------------------------------------------------------------------------------------------ content
def edit(folder: str, old: str, new: str) -> None:
    path = Path(folder, "Dockerfile")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_stage_that_changed_elsewhere_does_not_touch_copies_of_the_rest(build: Callable[..., Done], context: Context) -> None:
    folder = context({"Dockerfile": STAGES.format(what="same")})
    build(folder)
    edit(folder, "echo two > /two", "echo two > /two ; echo more > /more")
    assert ran(build(folder)) == ["two RUN echo two"]
    edit(folder, "RUN echo same", "RUN echo before > /before\nRUN echo same")
    assert ran(build(folder)) == ["one RUN echo before", "one RUN echo same"]


def test_the_definition_that_hit_by_content_hits_at_once_the_next_time(
    pybuild: Pybuild, build: Callable[..., Done], context: Context, tmp_path: Path, busybox_layout: str
) -> None:
    """After the hit by content no file is looked at any more: nothing is mounted, not even to hash it."""
    folder = context({"Dockerfile": STAGES.format(what="same")})
    build(folder)
    edit(folder, "echo two > /two", "echo two > /two ; echo more > /more")
    build(folder)
    watching = Watched(pybuild.root, log=str(tmp_path / "log"))
    done = watching.ok("-o", "type=cacheonly", "--build-context", f"base=oci-layout://{busybox_layout}", folder)
    assert (ran(done), watching.did()) == ([], [])


def test_stages_in_another_order_and_under_other_names_hit(build: Callable[..., Done], context: Context) -> None:
    text = STAGES.format(what="same")
    build(context({"Dockerfile": text}))
    one, two, last = text.split("FROM ")[1:]
    assert ran(build(context({"Dockerfile": "".join(f"FROM {stage}" for stage in (two, one, last))}))) == []
    renamed = text.replace("AS one", "AS first").replace("=one", "=first").replace("AS two", "AS other").replace("=two", "=other")
    assert ran(build(context({"Dockerfile": renamed.replace("AS last", "")}))) == []
    assert ran(build(context({"Dockerfile": text.replace("--from=one", "--from=0").replace("--from=two", "--from=1")}))) == []


def test_equal_stages_of_one_dockerfile_run_once(build: Callable[..., Done], context: Context) -> None:
    """The same step under two names: one of them runs."""
    text = "FROM base AS {0}\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
    end = "FROM base\nCOPY --from=a /id /a\nCOPY --from=b /id /b\nRUN cmp /a /b\n"
    done = build(context({"Dockerfile": text.format("a") + text.format("b") + end}))
    assert len([name for name in ran(done) if "RUN cat" in name]) == 1


# ------------------------------------------------------------------------------------------------ another base
LINKED = """FROM base AS tool
RUN echo made > /made
FROM {under}
COPY --link a.txt /srv/
COPY --link --from=tool /made /srv/made
"""


@pytest.fixture
def other_base(tmp_path: Path) -> str:
    """Another image with other files, as an OCI layout."""
    return write_layout(str(tmp_path / "other"), [layer_tar([Entry("other", b"base\n")])], {})


def test_linked_layers_are_reused_on_another_base_without_running_anything(
    pybuild: Pybuild, context: Context, busybox_layout: str, other_base: str, tmp_path: Path
) -> None:
    """Nothing is mounted, executed or fetched: the new base is not even unpacked, its layers are put below."""
    folder = context({"Dockerfile": LINKED.format(under="base"), "a.txt": "a\n"})
    bases = ("--build-context", f"base=oci-layout://{busybox_layout}", "--build-context", f"under=oci-layout://{other_base}")
    pybuild.ok(*bases, "-o", f"type=oci,dest={tmp_path}/1.tar", folder)
    edit(folder, "FROM base\nCOPY", "FROM under\nCOPY")
    watching = replace(Watched(pybuild.root), log=str(tmp_path / "log"))
    done = watching.ok(*bases, "-o", f"type=oci,dest={tmp_path}/2.tar", folder)
    assert watching.did() == []
    copies = {name: ending for name, ending in done.steps().items() if "] COPY --link" in name}
    assert list(copies.values()) == ["CACHED"] * 2
    first, second = read_image(tmp_path / "1.tar"), read_image(tmp_path / "2.tar")
    assert second.diff_ids[-2:] == first.diff_ids[-2:]
    assert (len(first.diff_ids), len(second.diff_ids)) == (5, 3)
    assert {name for name, e in second.files().items() if e.text} == {"other", "srv/a.txt", "srv/made"}


def test_a_linked_build_on_another_base_fetches_no_layer_until_it_is_wanted(
    pybuild: Pybuild, context: Context, busybox_layout: str, other_base: str, tmp_path: Path
) -> None:
    from tests.support.registries import LayoutRegistry

    folder = context({"Dockerfile": LINKED.format(under="base"), "a.txt": "a\n"})
    base = ("--build-context", f"base=oci-layout://{busybox_layout}")
    pybuild.ok(*base, "-o", "type=cacheonly", folder)
    asked: list[str] = []

    class Listening(LayoutRegistry):
        def deny(self, path: str) -> None:
            asked.append(path)

    with Listening(other_base) as registry:
        edit(folder, "FROM base\nCOPY", f"FROM {registry.host}/other\nCOPY")
        pybuild.ok(*base, "-t", "app", "-o", "type=cacheonly", folder)
        assert [path for path in asked if any(layer in path for layer in registry.layers)] == []
        pybuild.ok(*base, "-o", f"type=oci,dest={tmp_path}/2.tar", folder)
        assert [path for path in asked if any(layer in path for layer in registry.layers)] != []
    pybuild.fsck()


def test_a_step_on_linked_layers_is_found_by_the_image_below_and_not_by_its_place(
    pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    """What a RUN sees is base and linked layers together: the same image elsewhere is the same step, another image is another."""
    folder = context({"Dockerfile": LINKED.format(under="under") + "RUN ls / > /list\n", "a.txt": "a\n"})
    moved, newer = str(tmp_path / "moved"), str(tmp_path / "newer")
    shutil.copytree(busybox_layout, moved)
    write_layout(newer, [layer_tar([Entry("other", b"base\n")])], {})

    def build(under: str) -> Done:
        return pybuild(
            "-o", "type=cacheonly", "--build-context", f"base=oci-layout://{busybox_layout}",
            "--build-context", f"under=oci-layout://{under}", folder,
        )  # fmt: skip

    assert build(busybox_layout).code == 0
    assert build(moved).not_cached() == {}
    done = build(newer)
    assert done.ending("] COPY --link --from") == "CACHED"
    assert done.code != 0, "the new base has no shell to run the step with"

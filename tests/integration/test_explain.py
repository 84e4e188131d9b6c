"""``build --explain``, ``why`` and ``plan``: what would run, what ran, and what made it run."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import bases
from tests.support.cli import Pybuild, Watched, assert_refused
from tests.support.oci import Entry, layer_tar, write_layout

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]

WOULD_RUN = 10
DOCKERFILE = """FROM base AS build
ARG VERSION=1
ENV MODE=fast
RUN echo "$VERSION $MODE" > /version
COPY src /src
RUN cat /src/* > /out
FROM base
COPY --from=build /out /out
RUN --mount=type=bind,from=build,source=/src,target=/m cat /m/* /out > /final
"""


class Project:
    """A context on a base of its own, and the explanations of its builds."""

    def __init__(self, pybuild: Pybuild, folder: str, layout: str) -> None:
        self.pybuild, self.folder, self.layout = pybuild, folder, layout

    def args(self, *more: str) -> tuple[str, ...]:
        return ("--build-context", f"base=oci-layout://{self.layout}", *more, self.folder)

    def build(self, *more: str) -> dict[str, list[str]]:
        """Why each step ran."""
        return reasons(self.pybuild.ok("build", "--explain", *self.args(*more)).err)

    def plan(self, *more: str) -> tuple[dict[str, str], int]:
        """(step -> verdict, exit code)."""
        done = self.pybuild("plan", "--json", *self.args(*more))
        assert done.code in (0, WOULD_RUN), done.err
        doc = json.loads(done.out)
        assert doc["cached"] == (done.code == 0)
        return {short(s["name"]): s["verdict"] for s in doc["steps"]}, done.code

    def why(self, *more: str) -> dict[str, list[str]]:
        return reasons(self.pybuild.ok("why", *self.args(*more)).out)

    def write(self, name: str, text: str) -> None:
        Path(self.folder, name).write_text(text)

    def edit(self, old: str, new: str) -> None:
        path = Path(self.folder, "Dockerfile")
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def short(name: str) -> str:
    """A step's instruction without its place."""
    return name.partition("] ")[2]


def reasons(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    step = ""
    for line in text.splitlines():
        if line.startswith("["):
            step = short(line)
        elif line.startswith("    ") and step:
            point = line.strip()
            for verb in ("ran: ", "would run: ", "may run: ", "ran, and failed: "):
                point = point.removeprefix(verb)
            found.setdefault(step, []).append(point.partition(" (record of ")[0])
    return found


@pytest.fixture
def project(pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path) -> Project:
    """Built once."""
    layout = str(tmp_path / "layout")
    shutil.copytree(busybox_layout, layout)
    made = Project(pybuild, context({"Dockerfile": DOCKERFILE, "src/a": "a\n", "src/b": "b\n"}), layout)
    first = made.build()
    assert {r for rs in first.values() for r in rs} == {"there is no earlier record of it"}
    assert len(first) == 6
    return made


def builds_on(step: str) -> Callable[[str], bool]:
    return lambda reason: reason.startswith("it builds on ") and step in reason


def test_a_cached_build_ran_nothing(project: Project) -> None:
    assert project.plan() == (dict.fromkeys(project.plan()[0], "cached"), 0)
    assert len(project.plan()[0]) == 6
    assert "everything is cached" in project.pybuild.ok("plan", *project.args()).out
    assert "Nothing would run" in project.pybuild.ok("why", *project.args()).out
    assert "Nothing ran: everything was cached." in project.pybuild.ok("build", "--explain", *project.args()).err


def test_a_changed_arg(project: Project) -> None:
    asked = project.why("--build-arg", "VERSION=2")
    found = project.build("--build-arg", "VERSION=2")
    assert found['RUN echo "2 fast" > /version'] == ["ARG VERSION changed: 1 -> 2"]
    assert asked['RUN echo "2 fast" > /version'] == ["ARG VERSION changed: 1 -> 2"]
    assert builds_on("RUN echo")(found["COPY src /src"][0])
    assert found["RUN cat /src/* > /out"][0] == "ARG VERSION changed: 1 -> 2"
    assert "COPY --from=build /out /out" not in found  # its content is what it was


def test_a_changed_env(project: Project) -> None:
    project.edit("MODE=fast", "MODE=slow")
    assert project.build()['RUN echo "1 slow" > /version'] == ["ENV MODE changed: fast -> slow"]


def test_changed_added_and_removed_files_are_named(project: Project) -> None:
    """In the context; and in the stage that another one copies and mounts files of."""
    project.write("src/b", "other\n")
    project.write("src/new", "new\n")
    os.unlink(os.path.join(project.folder, "src/a"))
    expected = ["3 files differ: src/a removed, src/b changed, src/new added"]
    assert project.why()["COPY src /src"] == expected
    found = project.build()
    assert found["COPY src /src"] == expected
    assert list(map(builds_on("COPY src"), found["RUN cat /src/* > /out"])) == [True]
    assert found["COPY --from=build /out /out"] == ["1 file differs: /out changed"]
    (run,) = (reasons for step, reasons in found.items() if step.startswith("RUN --mount"))
    assert run[1] == "3 files differ: /src/a removed, /src/b changed, /src/new added"
    assert 'RUN echo "1 fast" > /version' not in found


def test_another_base(project: Project) -> None:
    old = json.loads(Path(project.layout, "index.json").read_text())["manifests"][0]["digest"]
    shutil.rmtree(project.layout)
    bases.busybox_layout(project.layout + "-made")
    layers = [layer_tar([Entry("etc/other", b"x")])]
    write_layout(project.layout, [_busybox_layer(project.layout + "-made"), *layers], {"Env": ["PATH=/bin"]})
    new = json.loads(Path(project.layout, "index.json").read_text())["manifests"][0]["digest"]
    found = project.build()
    assert f"digest changed: {old} -> {new}" in found["OCI load from client"]
    first = next(reasons for step, reasons in found.items() if step.startswith("RUN echo"))
    assert any(r.endswith(f"OCI load from client changed: {old} -> {new}") for r in first)


def _busybox_layer(layout: str) -> bytes:
    import gzip

    index = json.loads(Path(layout, "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]))
    data = _blob(layout, manifest["layers"][0]["digest"])
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _blob(layout: str, digest: str) -> bytes:
    return Path(layout, "blobs", *digest.split(":")).read_bytes()


def test_another_instruction_and_what_stands_on_it(project: Project) -> None:
    project.edit("RUN cat /src/* > /out", "RUN cat /src/* /src/* > /out")
    found = project.build()
    (reason,) = found["RUN cat /src/* /src/* > /out"]
    assert reason == "the instruction changed: RUN /bin/sh -c cat /src/* > /out -> RUN /bin/sh -c cat /src/* /src/* > /out"
    assert found["COPY --from=build /out /out"] == ["1 file differs: /out changed"]


def test_no_cache(project: Project) -> None:
    assert project.plan("--no-cache")[1] == WOULD_RUN
    assert project.build("--no-cache")["COPY src /src"] == ["the cache is ignored (--no-cache)"]


def test_a_pruned_result(project: Project) -> None:
    project.pybuild.ok("prune", "--all", "--force")
    found = project.build()
    assert found["COPY src /src"][0].startswith(("it builds on ", "the same was built before"))
    assert found["OCI load from client"] == ["the same was built before, its result is not in the cache any more"]


def test_a_prune_takes_the_keys_along(project: Project) -> None:
    """Rows that lead to results, and those results, are gone; the records of steps are kept for the next explanation."""

    def count(table: str) -> int:
        with sqlite3.connect(os.path.join(project.pybuild.root, _database(project))) as c:
            return int(c.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])

    assert min(count("solver_results"), count("solver_links"), count("solver_steps")) > 0
    project.pybuild.ok("prune", "--all", "--force")
    assert (count("solver_results"), count("solver_links")) == (0, 0)
    assert count("solver_steps") > 0


def _database(project: Project) -> str:
    from builder.state.layout import Layout

    return os.path.relpath(Layout(project.pybuild.root).database, project.pybuild.root)


def test_a_failed_step_is_explained(project: Project) -> None:
    project.edit("RUN cat /src/* > /out", "RUN false")
    for reason in ("the instruction changed: RUN /bin/sh -c cat /src/* > /out -> RUN /bin/sh -c false", "it failed the last time"):
        done = project.pybuild("build", "--explain", *project.args())
        assert_refused(done, "exit code: 1")
        assert reasons(done.err)["RUN false"] == [reason]
    assert reasons(project.pybuild.ok("why").out)["RUN false"] == ["it failed the last time"]


def test_why_alone_is_about_the_last_build_that_ran_something(project: Project) -> None:
    project.write("src/b", "other\n")
    project.pybuild.ok(*project.args())
    project.pybuild.ok(*project.args())
    done = project.pybuild.ok("why")
    assert project.folder in done.out.splitlines()[0]
    assert reasons(done.out)["COPY src /src"] == ["1 file differs: src/b changed"]
    steps = json.loads(project.pybuild.ok("why", "--json").out)["steps"]
    (copy,) = (s for s in steps if s["instruction"] == "COPY src /src")
    assert copy["differences"] == [{"change": "changed", "kind": "file", "name": "src/b", "old": "", "new": ""}]


def test_why_before_any_build(pybuild: Pybuild) -> None:
    assert "No build here has run anything yet." in pybuild.ok("why").out
    assert_refused(pybuild("why", "--target", "x"), "CONTEXT is missing")


def test_a_plan_says_maybe_where_content_decides(project: Project) -> None:
    """The changed file runs its copy and what stands on that; whoever copies from there may find what was there before."""
    project.write("src/b", "other\n")
    verdicts, code = project.plan()
    assert code == WOULD_RUN
    assert list(verdicts.values()) == ["cached", "cached", "run", "run", "maybe", "maybe"]


def test_content_of_a_cached_stage_that_nobody_hashed_is_not_looked_at(project: Project, tmp_path: Path) -> None:
    """A new COPY --from of a stage that is there: whether it would hit can't be told without mounting it."""
    project.edit("COPY --from=build /out /out", "COPY --from=build /version /out")
    watching = Watched(project.pybuild.root, log=str(tmp_path / "log"))
    done = watching("plan", *project.args())
    assert done.code == WOULD_RUN, done.err
    verdicts = {short(line): line.split()[0] for line in done.out.splitlines()}
    assert verdicts["COPY --from=build /version /out"] == "maybe"
    assert watching.did() == []


def test_a_plan_runs_mounts_and_connects_nothing(project: Project, tmp_path: Path) -> None:
    """Cached, changed, and on an empty root."""
    watching = Watched(project.pybuild.root, log=str(tmp_path / "log"))
    assert watching("plan", *project.args()).code == 0
    project.write("src/b", "other\n")
    assert watching("plan", *project.args()).code == WOULD_RUN
    empty = str(tmp_path / "empty")
    Pybuild(empty).ok("du")  # a new root tries once what can be mounted
    assert Watched(empty, log=str(tmp_path / "log"))("plan", *project.args()).code == WOULD_RUN
    assert watching.did() == []


def test_errors_of_a_plan_are_those_of_a_build(project: Project) -> None:
    project.edit("COPY src /src", "COPY none /src")
    done = project.pybuild("plan", *project.args())
    assert_refused(done, '"/none": not found')


def test_secrets_are_stored_and_told_nowhere(project: Project, tmp_path: Path) -> None:
    secret = "a-very-secret-value"
    project.edit("RUN cat /src/* > /out", "RUN --mount=type=secret,id=s,env=S test -n $S; cat /src/* > /out")
    done = project.pybuild.ok("build", "--explain", *project.args("--secret", "id=s,env=SECRET"), env={"SECRET": secret})
    assert secret not in done.err + project.pybuild.ok("why", "--json").out
    with sqlite3.connect(os.path.join(project.pybuild.root, _database(project))) as c:
        from builder.solver.steplog import decode_step

        records: list[Any] = [decode_step(row[0]) for row in c.execute("SELECT record FROM solver_steps")]
    assert any("S" in str(r.parts) for r in records)
    assert secret not in repr(records)


def test_max_parallelism_bounds_the_steps_at_one_time(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """Each step would fail if it met another one; all meet in one folder."""
    step = "RUN --mount=type=cache,target=/c mkdir /c/busy && for i in 1 2 3 4 5; do ls /c > /x; done && rmdir /c/busy && echo {}"
    stages = "".join(f"FROM {busybox} AS s{i}\n{step.format(i)}\n" for i in range(4))
    copies = "".join(f"COPY --from=s{i} /x /x{i}\n" for i in range(4))
    folder = context({"Dockerfile": f"{stages}FROM scratch\n{copies}"})
    pybuild.ok("build", "--max-parallelism", "1", folder)
    assert_refused(pybuild("build", "--max-parallelism", "-1", folder), "max-parallelism", code=None)

"""``du`` and ``prune`` on the command line: what is counted, and what each flag takes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Pybuild, assert_refused

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
KIB = 1024

DOCKERFILE = """FROM {base} AS tool
RUN echo made > /made
FROM {base}
COPY files/ /srv/
RUN --mount=type=cache,target=/c head -c 900000 /dev/zero > /c/kept; cp -r /srv /twice; rm /srv/1
RUN ln /srv/2 /srv/hard; ln -s 2 /srv/soft; head -c 500000 /dev/zero > /big
COPY --link --from=tool /made /linked/
"""


def build(pybuild: Pybuild, context: Context, busybox: str, *args: str) -> None:
    files: dict[str, str | bytes] = {f"files/{n}": bytes([n]) * 700 * n for n in range(120)}
    pybuild.ok(*args, context({"Dockerfile": DOCKERFILE.format(base=busybox), **files}))


@pytest.mark.parametrize("snapshotter", ["overlay", "native"])
@pytest.mark.parametrize("output", [(), ("-t", "app")], ids=["cache", "image"])
def test_du_agrees_with_du(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path, snapshotter: str, output: tuple[str, ...]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[worker.oci]\nsnapshotter = "{snapshotter}"\n')
    pybuild = Pybuild(pybuild.root, {"PYBUILD_CONFIG": str(config)})
    build(pybuild, context, busybox, *output)
    told = sum(record["size"] for record in usage(pybuild))
    real = int(subprocess.run(["du", "-s", "--block-size=1", pybuild.root], capture_output=True, check=True).stdout.split()[0])
    assert abs(told - real) <= 0.05 * real, f"pybuild du: {told}, du: {real}"


# ---------------------------------------------------------------------------------------------------------------- prune
def usage(pybuild: Pybuild, *args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pybuild.ok("du", "--format", "json", *args).out.splitlines()]


def pruned(pybuild: Pybuild, *args: str) -> list[dict[str, Any]]:
    """What went, which is what ``du`` does not show any more."""
    gone = [json.loads(line) for line in pybuild.ok("prune", "--force", "--format", "json", *args).out.splitlines()]
    if gone:
        assert {record["id"] for record in gone}.isdisjoint(record["id"] for record in usage(pybuild))
        pybuild.fsck()
    return gone


@pytest.fixture
def filled(pybuild: Pybuild, context: Context, busybox: str) -> Pybuild:
    build(pybuild, context, busybox)
    return pybuild


def only(pybuild: Pybuild, text: str) -> dict[str, Any]:
    found = [record for record in usage(pybuild) if text in record["description"]]
    assert len(found) == 1, found
    return found[0]


def test_prune_takes_all_that_is_not_in_use(filled: Pybuild) -> None:
    pruned(filled)
    assert {record["record_type"] for record in usage(filled)} <= {"internal"}


def test_filters_of_prune(filled: Pybuild) -> None:
    mount, top = only(filled, "cached mount"), only(filled, "/srv/hard")
    assert mount["record_type"] == "exec.cachemount"
    for nothing in ("type=frontend", "unused-for=24h", "until=1h", "id=xyz", "inuse=true", "shared"):
        assert pruned(filled, "--filter", nothing) == []
    assert pruned(filled, "--filter", "type=exec.cachemount", "--filter", "immutable") == [], "all must match"
    assert [x["id"] for x in pruned(filled, "--filter", "type=exec.cachemount", "--filter", "mutable=true")] == [mount["id"]]
    assert pruned(filled, "--filter", "description=no such step") == []
    merged = next(record for record in usage(filled) if len(record["parents"]) > 1)
    assert [x["id"] for x in pruned(filled, "--filter", f"id={merged['id'][:8]}")] == [merged["id"]]
    assert [x["id"] for x in pruned(filled, "--filter", "description~=srv/hard")] == [top["id"]]
    assert pruned(filled, "--filter", "type!=exec.cachemount", "--filter", "private=true", "--filter", "unused-for=0s")


@pytest.mark.parametrize(
    ("filters", "cause"),
    [
        (("until=x",), "duration"),
        (("until=1h", "unused-for=2h"), "one value"),
        (("type=a", "type=b"), "one value"),
        (("=x",), "filter"),
        (("id~=[",), "filter"),
    ],
)
@pytest.mark.parametrize("command", ["prune", "du"])
def test_filters_that_are_none(pybuild: Pybuild, command: str, filters: tuple[str, ...], cause: str) -> None:
    assert_refused(pybuild(command, *(f"--filter={text}" for text in filters)), cause)


def test_bounds_of_prune(filled: Pybuild) -> None:
    total = sum(record["size"] for record in usage(filled) if record["record_type"] != "internal")
    for flag in ("--reserved-space", "--keep-storage"):
        assert pruned(filled, flag, str(2 * total)) == []
    assert pruned(filled, "--max-used-space", "1g") == []
    assert pruned(filled, "--min-free-space", "1") == [], "that much is free"
    assert pruned(filled, "--keep-duration", "1h") == []
    some = pruned(filled, "--max-used-space", f"{total * 3 // 4 // KIB}k")
    left = sum(record["size"] for record in usage(filled) if record["record_type"] != "internal")
    assert some
    assert 0 < left <= total * 3 // 4 + KIB
    more = pruned(filled, "--min-free-space", "1000000g", "--reserved-space", str(left // 2))
    assert more, "no disk has that much: down to what is reserved"
    pruned(filled, "--min-free-space", "1000000g")
    assert all(record["record_type"] == "internal" for record in usage(filled))


def test_prune_for_people(filled: Pybuild) -> None:
    total = usage(filled)
    done = filled.ok("prune", "-f", "--verbose", "--filter", "type=exec.cachemount")
    assert done.out.splitlines()[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert done.out.splitlines()[-1].startswith("Total:")
    assert len(usage(filled)) == len(total) - 1
    assert "Reclaimable:" in filled.ok("du", "--verbose").out
    assert "description:" in filled.ok("du", "--verbose").out


def test_with_all_stored_images_keep_what_they_need(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    build(pybuild, context, busybox, "-t", "app")
    pruned(pybuild, "--all")
    pybuild.ok("save", "-o", f"{tmp_path}/app.tar", "app")
    assert [record["id"] for record in usage(pybuild, "--filter", "shared=true")] == ["images"]


# -------------------------------------------------------------------------------------------------------------- leases
def test_what_a_running_build_uses_stays_until_it_is_killed(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path
) -> None:
    from tests.support.processes import eventually

    name = "is-running"
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo base > /base\nRUN touch /c-{name} && sleep 1000\n"})
    running = pybuild.start("--progress", "plain", folder)
    try:
        eventually(lambda: any(Path(pybuild.root, "snapshots").glob(f"*/fs/c-{name}")), "the step runs")
        pruned(pybuild, "--all")
        assert only(pybuild, "echo base")["in_use"]
    finally:
        running.kill()
        running.wait()
    gone = pruned(pybuild, "--all")
    assert any("echo base" in record["description"] for record in gone)
    assert all(record["record_type"] == "internal" for record in usage(pybuild))


# ------------------------------------------------------------------------------------------------- gc after each build
@pytest.mark.parametrize(
    ("rules", "stays"),
    [
        ("gc = true", True),
        ("gc = false\n[[worker.oci.gcpolicy]]\nall = true", True),
        ("[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = 1", False),
        ('[[worker.oci.gcpolicy]]\nall = true\nkeepDuration = "1h"', True),
        ('[[worker.oci.gcpolicy]]\nmaxUsedSpace = 1\nfilters = ["type==frontend"]', True),
        ('[[worker.oci.gcpolicy]]\nmaxUsedSpace = 1\nreservedSpace = "1GB"', True),
        ('[[worker.oci.gcpolicy]]\nmaxUsedSpace = "90%"', True),
        ('[[worker.oci.gcpolicy]]\nminFreeSpace = "100%"', False),
        ('[[worker.oci.gcpolicy]]\nfilters = ["type==frontend"]\n[[worker.oci.gcpolicy]]\nmaxUsedSpace = 1', False),
    ],
)
def test_gc_policies_after_a_build(pybuild: Pybuild, context: Context, tmp_path: Path, rules: str, stays: bool) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[worker.oci]\n{rules}\n")
    pybuild.ok("--config", str(config), context({"Dockerfile": "FROM scratch\nCOPY a /a\nCOPY b /b\n", "a": "a", "b": "b"}))
    left = {record["description"].partition("[")[2] for record in usage(pybuild) if record["record_type"] == "regular"}
    assert left == ({"1/2] COPY a /a", "2/2] COPY b /b"} if stays else set())
    pybuild.fsck()

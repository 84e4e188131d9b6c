"""What a real build shows: plain lines and JSON as buildx prints them."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.cli import Pybuild

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
DOCKERFILE = """FROM BASE AS a
RUN echo a
from BASE
COPY f /x
RUN echo out && echo err >&2
COPY --from=a /etc /e
"""


@pytest.fixture
def folder(context: Context, busybox: str) -> str:
    return context({"Dockerfile": DOCKERFILE.replace("BASE", busybox), "f": "text"})


def test_every_step_ends_once(pybuild: Pybuild, folder: str) -> None:
    for flags in ((), (), ("--no-cache",)):
        done = pybuild.ok("--progress=plain", "-t", "x", *flags, folder)
        ends = Counter(m[1] for m in re.finditer(r"^(#\d+) (?:DONE|CACHED)\b", done.err, re.MULTILINE))
        assert set(ends.values()) == {1}, done.err
        assert set(ends) == set(re.findall(r"^#\d+", done.err, re.MULTILINE))
        assert re.search(r"^#\d+ WARN: ConsistentInstructionCasing: .*\(line 3\)$", done.err, re.MULTILINE)


def test_raw_progress_is_json_to_its_last_line(pybuild: Pybuild, folder: str) -> None:
    done = pybuild.ok("--progress=rawjson", "--build-arg", "NOBODY=1", folder)
    lines = [json.loads(line) for line in done.err.splitlines()]
    vertexes = [v for line in lines for v in line.get("vertexes", ())]
    known = {v["digest"] for v in vertexes}
    last = {v["digest"]: v for v in vertexes}
    assert all(set(v.get("inputs", ())) <= known for v in vertexes)
    assert all("started" in v and "completed" in v for v in last.values())
    steps = {v["name"]: v for v in last.values()}
    copy, base = steps["[stage-1 4/4] COPY --from=a /etc /e"], steps["[a 2/2] RUN echo a"]
    assert base["digest"] in copy["inputs"]
    assert "started" not in vertexes[0] or vertexes[0]["name"].startswith("[internal]")
    run = steps["[stage-1 3/4] RUN echo out && echo err >&2"]["digest"]
    logs = [log for line in lines for log in line.get("logs", ()) if log["vertex"] == run]
    assert sorted((log["stream"], base64.b64decode(log["data"])) for log in logs) == [(1, b"out\n"), (2, b"err\n")]
    warnings = [base64.b64decode(w["short"]).decode() for line in lines for w in line.get("warnings", ())]
    assert any(w.startswith("ConsistentInstructionCasing: ") for w in warnings)
    assert any("[NOBODY] were not consumed" in w for w in warnings)


def test_a_cached_build_says_so_in_json(pybuild: Pybuild, folder: str) -> None:
    pybuild.ok(folder)
    lines = [json.loads(line) for line in pybuild.ok("--progress=rawjson", folder).err.splitlines()]
    cached = {v["name"] for line in lines for v in line.get("vertexes", ()) if v.get("cached")}
    assert {name for name in cached if "RUN" in name or "COPY" in name} == {
        "[a 2/2] RUN echo a",
        "[stage-1 2/4] COPY f /x",
        "[stage-1 3/4] RUN echo out && echo err >&2",
        "[stage-1 4/4] COPY --from=a /etc /e",
    }


def test_output_beyond_the_limit_is_cut_but_for_the_end_of_a_failed_step(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN yes | head -c 900000; echo the-end; exit 3\n"})
    env = {"BUILDKIT_STEP_LOG_MAX_SIZE": "1024", "BUILDKIT_STEP_LOG_MAX_SPEED": "-1"}
    done = pybuild("--progress=plain", folder, env=env)
    assert done.code == 1
    assert done.err.count("[output clipped, log limit 1KiB reached]") == 1
    assert 128 * 1024 <= len(re.findall(r"^#\d+ \d+\.\d+ y$", done.err, re.MULTILINE)) < 200_000
    assert re.search(r"^#\d+ \d+\.\d+ the-end$", done.err, re.MULTILINE)
    whole = pybuild("--progress=plain", folder, env={**env, "BUILDKIT_STEP_LOG_MAX_SIZE": "-1"})
    assert len(re.findall(r"^#\d+ \d+\.\d+ y$", whole.err, re.MULTILINE)) == 450_000

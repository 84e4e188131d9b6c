"""The same cases built by pybuild and by another builder: a buildkitd, or the BuildKit inside a dockerd, whichever is on PATH.

Images are compared as ``pybuild compare`` does it, with its list of what may differ; failures by what they are about.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from builder.compare import BuildSpec, CompareError, compare, load_rules, report
from builder.compare.builders import Buildkit, Docker, Pybuild
from builder.compare.rules import Rule
from builder.compare.types import Builder
from builder.values import dataclass, replace
from tests.fuzz.builds import Workshop
from tests.fuzz.cases import Case, Scenario, Stage
from tests.fuzz.generate import ALL
from tests.fuzz.invariants import Failure
from tests.support import bases
from tests.support.processes import Dockerd, Registry, Server, _unmount_below

RULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rightful.toml")
OLD = frozenset({"odd", "onbuild", "xattrs"})
"""What the BuildKit of 2020 inside dockerd 20.10 knows, without what today's does otherwise on purpose."""
NEW = ALL - {"named", "control"}
"""A named context is another flag in each client; names with control characters are refused by BuildKit's (as header values)."""

SAME_IMAGE = "another builder makes the same image"
SAME_END = "where one builder fails the other does"
SAME_WORDS = "builders fail for the same reason"
"""Only noted: of two steps that can't be done, or of two things wrong with one, either may be met first."""

_KINDS = (
    r"exit code: \d+", "not found|no such file", "too many links|too many levels",
    "not a directory|non-directory|must be a directory|cannot overwrite",
    "uid|user|owner|passwd", "parse error|unknown|invalid|unexpected|syntax", "no source|no match", "mkdir|exists",
)  # fmt: skip

# BuildKit's client sends what sources name, and no folder in which a pattern matches nothing: whether that is an error depends on
# what other instructions copy. pybuild reads the context in place; a pattern may match nothing in every folder that is there.
_NOT_SENT = r"lstat /\S+: no such file or directory"


_UNSEEN = {"time", "content at equal size and time", "two files traded"}
"""Changes after which builders may differ. No key has a time: which one a cached file has depends on the cache. And a daemon is
sent what differs in size, time or mode (fsutil): it misses other bytes."""


@dataclass(frozen=True)
class Other:
    """A builder to compare with. ``base`` is what to write behind FROM for it and for pybuild."""

    name: str
    builder: Builder
    ours: Builder
    base: str
    features: frozenset[str]
    rules: Sequence[Rule]
    since: float


@contextmanager
def found() -> Iterator[Other | None]:
    """The one that is on PATH, started here and ended here; None if there is none."""
    folder = tempfile.mkdtemp(prefix="pbf-", dir="/tmp")  # the paths of sockets may not be long
    servers: list[Server] = []
    since = time.time()
    rules = (*load_rules(), *load_rules(RULES))
    try:
        if shutil.which("docker-registry") is None or not (shutil.which("buildkitd") or shutil.which("dockerd")):
            yield None
            return
        registry = Registry(f"{folder}/registry")
        servers.append(registry)
        base = bases.push(bases.busybox_layout(f"{folder}/base"), f"{registry.host}/fuzz/base:1")
        ours = Pybuild(root=f"{folder}/pybuild")
        if shutil.which("buildkitd"):
            servers.append(buildkitd(folder, registry.host))
            environ = {**os.environ, "BUILDKIT_HOST": f"unix://{folder}/b.sock"}
            yield Other("buildkitd", Buildkit(environ=environ), ours, base, NEW, rules, since)
        else:
            os.mkdir(f"{folder}/d")
            daemon = Dockerd(f"{folder}/d")
            servers.append(daemon)
            environ = {**os.environ, "DOCKER_CONFIG": f"{folder}/client"}
            yield Other("dockerd", Docker(f"unix://{daemon.socket}", environ=environ), ours, base, OLD, rules, since)
    finally:
        for server in reversed(servers):
            server.stop()
        _unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def buildkitd(folder: str, registry: str) -> Server:
    """A daemon on the host's network, which speaks plain http to ``registry``."""
    with open(f"{folder}/buildkitd.toml", "w", encoding="utf-8") as f:
        f.write(f'insecure-entitlements = ["network.host"]\n[registry."{registry}"]\n  http = true\n')
    command = ["buildkitd", "--config", f"{folder}/buildkitd.toml", "--root", f"{folder}/b", "--addr", f"unix://{folder}/b.sock"]
    command += ["--oci-worker-net=host", "--oci-worker-gc=false", "--oci-worker-binary=runc", "--containerd-worker=false"]
    return Server(command, r"running server on", cwd=folder)


def check(shop: Workshop, other: Other, scenario: Scenario, only: str = "") -> list[Failure]:
    """The first build and each rebuild, by both."""
    out: list[Failure] = []
    with shop.bench(scenario.first) as bench:
        out += _both(bench.folder, scenario.first, other, 0)
        for number, change in enumerate(scenario.changes, 1):
            bench.change(change.case, in_place=change.in_place)
            if all(c.name not in _UNSEEN for c in scenario.changes[:number]):
                out += _both(bench.folder, change.case, other, number)
    return [f for f in out if not only or f.invariant == only]


def portable(case: Case, base: str) -> Case:
    """The case on a base that both can pull, without named contexts."""
    stages = []
    for s in case.stages:
        lines = tuple(re.sub(r"from=base\b", f"from={base}", line) for line in s.instructions)
        stages.append(Stage(s.name, base if s.base == "base" else s.base, lines))
    head = tuple(line for line in case.head if not line.startswith("# syntax"))  # another builder would pull that image
    return replace(case, head=head, stages=tuple(stages))


def _both(folder: str, case: Case, other: Other, at: int) -> list[Failure]:
    case = portable(case, other.base)
    name = f"{folder}/context/Dockerfile" if case.inside else f"{folder}/Dockerfile"
    with open(name, "w", encoding="utf-8", errors="surrogateescape") as f:
        f.write(case.dockerfile())
    args = tuple(f"{k}={v}" for k, v in case.args)
    spec = BuildSpec(context=f"{folder}/context", file=name, build_args=args, secrets=(f"id=tok,src={folder}/token",))
    ours, theirs = _error(other.ours, spec), _error(other.builder, spec)
    if ours and theirs:
        if kinds(ours) & kinds(theirs):
            return []
        return [Failure(SAME_WORDS, at, f"pybuild: {ours}\n{other.name}: {theirs}")]
    if theirs and not ours and re.search(_NOT_SENT, theirs):
        return []
    if ours or theirs:
        return [Failure(SAME_END, at, f"only {'pybuild' if ours else other.name} fails: {ours or theirs}")]
    result = compare(spec, other.ours, other.builder, other.rules, runs=(False,), since=other.since)
    if not result.equal and at:
        # BuildKit's keys leave out what an --exclude covers: a folder that was a file before keeps the file. pybuild's cache is
        # held against an empty root by the other rules; here counts what builders make.
        result = compare(spec, other.ours, other.builder, other.rules, runs=(True,), since=other.since)
    return [] if result.equal else [Failure(SAME_IMAGE, at, report.as_text(result))]


def _error(builder: Builder, spec: BuildSpec) -> str:
    try:
        builder.build(spec, cold=False)
    except CompareError as e:
        lines = [line for line in f"{e}\n{e.hint}".splitlines() if re.match(r"ERROR: |error: |.*failed to ", line)]
        return lines[-1] if lines else str(e)
    return ""


def kinds(message: str) -> set[str]:
    """What a failure is about. Texts of two versions differ in more than that."""
    return {pattern for pattern in _KINDS if re.search(pattern, message, re.IGNORECASE)} or {"something else"}

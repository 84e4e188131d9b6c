"""What has to hold for every scenario, whatever is in it; no other builder is needed to say so.

Each check gives failures as text that a person can read: which two builds should have been alike, and where they are not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence

from builder.values import dataclass, replace
from tests.fuzz import listing
from tests.fuzz.builds import PLAIN, Bench, Outcome, Variant, Workshop, is_step
from tests.fuzz.cases import Scenario
from tests.support.cli import Pybuild
from tests.support.oci import read_image


@dataclass(frozen=True)
class Failure:
    """``invariant`` names the rule, ``at`` the number of changes that were made before; ``text`` says what differs."""

    invariant: str
    at: int
    text: str


def check(shop: Workshop, variants: Sequence[Variant], scenario: Scenario, only: str = "") -> list[Failure]:
    """All failures of a scenario. ``only`` names an invariant, and the others are not looked at where that saves builds."""
    with shop.bench(scenario.first) as bench:
        return list(_checks(scenario, bench, variants, only))


def _checks(scenario: Scenario, bench: Bench, variants: Sequence[Variant], only: str) -> Iterator[Failure]:
    kept = bench.machine()
    yield from _plan_and_build(bench, kept, 0, None, only)
    first = bench.build(kept)  # all cached: what the first build gave, or its failure
    if not only or only == TWICE:
        yield from _same(TWICE, 0, bench.build(bench.machine()), first, "another empty root", "the first root")
    for variant in variants:
        if not only or only == f"{ALIKE} {variant.name}":
            other = bench.build(bench.machine(variant), variant)
            if variant.lacks and variant.lacks in other.message:
                continue
            yield from _same(f"{ALIKE} {variant.name}", 0, other, first, variant.name, PLAIN.name)
    if not only or only == OUTPUTS:
        yield from _outputs(bench, kept, 0, first)
    before = first
    seen = [(scenario.first, first)]
    for number, change in enumerate(scenario.changes, 1):
        bench.change(change.case, in_place=change.in_place)
        expected = next((o for case, o in seen if case == change.case), before if change.cached else None)
        results: list[Outcome] = []
        yield from _plan_and_build(bench, kept, number, expected, only, results)
        before = results[0]
        if not only or only == CACHED:
            fresh = bench.build(bench.machine())
            # A time alone is in no key: what is cached has the times that files had then.
            times = change.name != "time" and not any(c.name == "time" for c in scenario.changes[:number])
            label = f"after the change {change.name!r}: from the cache"
            yield from _same(CACHED, number, before, fresh, label, "from nothing", times=times)
        seen.append((change.case, before))


TWICE = "built twice from nothing, the image is the same"
CACHED = "cached is from nothing"
ALIKE = "the same image by"
OUTPUTS = "every type of output holds the same files"
PLAN = "plan says what a build does"
AGAIN = "what was built is cached"
CLEAN = "no build ends in an internal error"


def _plan_and_build(
    bench: Bench, machine: Pybuild, at: int, expected: Outcome | None, only: str, results: list[Outcome] | None = None
) -> Iterator[Failure]:
    """``expected``: the outcome of an earlier build of what is the same to the cache."""
    done = bench.plan(machine) if not only or only == PLAN else None
    outcome = bench.build(machine)
    if results is not None:
        results.append(outcome)
    if "internal error" in outcome.message or "Traceback" in outcome.text:
        yield Failure(CLEAN, at, outcome.text)
    if done is not None:
        yield from _plan(done.code, done.out, done.err, outcome, at)
    if expected is not None and expected.ok:
        if not outcome.ok:
            yield Failure(AGAIN, at, f"it was built before, and now: {outcome.message}\n{outcome.text}")
        elif ran := outcome.ran():
            yield Failure(AGAIN, at, "these ran again:\n" + "\n".join(f"  {name}" for name in ran))


def _plan(code: int, out: str, err: str, outcome: Outcome, at: int) -> Iterator[Failure]:
    if code not in (0, 10):
        if outcome.ok:
            yield Failure(PLAN, at, f"plan fails with {code}, the build does not:\n{err}")
        elif "internal error" in err or "Traceback" in err:
            yield Failure(CLEAN, at, err)
        return
    wrong = []
    steps = json.loads(out)["steps"]
    for step in steps:
        name, how = outcome.steps.get(step["digest"], (step["name"], "nothing"))
        if how == "failed":
            how = "ran"
        said = step["verdict"]
        if not outcome.ok and (said, how) != ("cached", "ran"):
            continue  # where a build fails, what was under way below the failing step is shown as BuildKit's vertexStream shows it
        if not is_step(name) or how == "source":
            continue  # what has no inputs is not shown as cached
        if {"cached": "cached", "run": "ran"}.get(said, how) != how:
            wrong.append(f"  plan: {said}, build: {how}: {name}")
    if wrong:
        yield Failure(PLAN, at, "\n".join(wrong))
    sources = {digest for digest, (_, how) in outcome.steps.items() if how == "source"}
    said_all = all(s["verdict"] != "maybe" and (s["verdict"] == "cached" or s["digest"] not in sources) for s in steps)
    if outcome.ok and (code == 0) != (not outcome.ran()) and said_all:
        yield Failure(PLAN, at, f"plan's exit code is {code}; the build ran {outcome.ran() or 'nothing'}")


def _same(
    rule: str, at: int, left: Outcome, right: Outcome, left_name: str, right_name: str, *, times: bool = True
) -> Iterator[Failure]:
    """Equal digests, or failures that say the same. Where other steps failed, one of two that run side by side was faster."""
    if left.ok and right.ok:
        if left.manifest == right.manifest:
            return
        lines = image_differences(left.archive, right.archive, times=times)
        if lines:
            yield Failure(rule, at, f"left: {left_name}; right: {right_name}\n" + "\n".join(f"  {line}" for line in lines))
    elif left.ok != right.ok:
        bad, name = (right, right_name) if left.ok else (left, left_name)
        yield Failure(rule, at, f"only {name} fails:\n{bad.text}")
    elif left.failed() == right.failed() and _loose(left.message) != _loose(right.message):
        yield Failure(rule, at, f"both fail, differently\n  {left_name}: {left.message}\n  {right_name}: {right.message}")


def _loose(message: str) -> str:
    """Without names: of several files that are missing, one of those that are looked for side by side is named."""
    return re.sub(r"/\S*/case-\w+(/m\d+)?|\bref [\w-]+|\"[^\"]*\"", "", message)


def image_differences(left: str, right: str, *, times: bool = True) -> list[str]:
    """Lines for people; empty if only times differ and ``times`` says that they don't matter."""
    a, b = read_image(left), read_image(right)
    out = []
    for key in sorted({*a.config, *b.config} - {"rootfs", "history"}):
        if a.config.get(key) != b.config.get(key):
            out.append(f"config: {key}: {json.dumps(a.config.get(key))} | {json.dumps(b.config.get(key))}")
    for number in range(max(len(a.config.get("history", ())), len(b.config.get("history", ())))):
        x, y = (c["history"][number] if number < len(c.get("history", ())) else None for c in (a.config, b.config))
        if x != y:
            out.append(f"history {number}: {json.dumps(x)} | {json.dumps(y)}")
    x_files, y_files = listing.of_image(a), listing.of_image(b)
    files = listing.differences(x_files, y_files)
    if not times:
        files = [line for line in files if not re.search(r": mtime: \d+ \| \d+$", line)]
    out += files
    if not out and times:
        for number, (x, y) in enumerate(zip(a.diff_ids, b.diff_ids, strict=False)):
            if x != y:
                p, q = (listing.of_layer(i.layers[number]) for i in (a, b))
                out += [f"layer {number}: {line}" for line in listing.differences(p, q)] or [
                    f"layer {number}: {x} | {y}: equal names, other bytes"
                ]
        if len(a.diff_ids) != len(b.diff_ids):
            out.append(f"{len(a.diff_ids)} layers | {len(b.diff_ids)} layers")
        if not out:
            out.append(f"manifests: {json.dumps(a.manifest)} | {json.dumps(b.manifest)}")
    return out


def _outputs(bench: Bench, machine: Pybuild, at: int, built: Outcome) -> Iterator[Failure]:
    """One command with four outputs, from the cache."""
    if not built.ok:
        return
    folder = os.path.join(os.path.dirname(machine.root), "outputs")
    os.mkdir(folder)
    flags = [f"--output=type={kind},dest={folder}/{kind}" for kind in ("local", "tar", "oci", "docker")]
    done = machine("build", *flags, *PLAIN.flags, *bench.flags(machine))
    if done.code != 0:
        yield Failure(OUTPUTS, at, f"the build that succeeded before fails now:\n{done.err}")
        return
    oci = listing.of_image(read_image(f"{folder}/oci"))
    docker = listing.of_image(read_image(f"{folder}/docker"))
    tar, local = listing.of_tar(f"{folder}/tar"), listing.of_folder(f"{folder}/local")
    owned = {path: replace(item, owner=(0, 0)) for path, item in tar.items()}
    pairs = (
        ("oci", oci, "docker", docker),
        (
            "oci",
            {path: _in_layers(item) for path, item in oci.items()},
            "tar",
            {path: _in_layers(item) for path, item in tar.items()},
        ),
        # As with buildx, a folder belongs to whoever asked for it.
        ("tar", owned, "local", local),
    )
    for left_name, left, right_name, right in pairs:
        if lines := listing.differences(left, right):
            yield Failure(OUTPUTS, at, f"left: {left_name}; right: {right_name}\n" + "\n".join(f"  {line}" for line in lines))


def _in_layers(item: listing.Item) -> listing.Item:
    """What layers say of a file: of extended attributes the capabilities (as containerd's writer does), and of a folder not the
    time alone: one that is otherwise as below is in no layer (BuildKit's sameDirent), and a RUN mounts stubs into /etc."""
    xattrs = tuple(pair for pair in item.xattrs if pair[0] == "security.capability")
    return replace(item, xattrs=xattrs, mtime=0 if item.kind == "folder" else item.mtime)

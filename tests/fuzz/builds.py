"""Builds of cases by the command, in each of the ways that have to give the same image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from builder.values import dataclass, field
from tests.fuzz import trees
from tests.fuzz.cases import Case, Stage
from tests.support.cli import REPOSITORY, Done, Pybuild

EPOCH = "1700000000"
"""SOURCE_DATE_EPOCH of all builds whose images are compared; every file of a context is older."""
HUNG = -1
"""The exit code of a command that did not end."""
ACCOUNT = 65534
"""The ordinary account. It needs a name, newuidmap insists on one."""
_PROBE = (Stage("s0", "base", ("RUN id -u > /uid && chown 1000:1001 /uid",)),)
_SUBIDS = f"{ACCOUNT}:200000:65536\n"


@dataclass(frozen=True)
class Variant:
    """A way to build. ``config`` is pybuild.toml's text. ``lacks``: words of the error that refuses what it can't do."""

    name: str
    flags: tuple[str, ...] = ()
    config: str = ""
    rootless: bool = False
    lacks: str = ""


PLAIN = Variant("root, overlay, native", ("--runtime=native",), '[worker.oci]\n  snapshotter = "overlay"\n')
VARIANTS = (
    Variant("rootless", rootless=True),
    Variant("native snapshotter, runc", ("--runtime=runc",), '[worker.oci]\n  snapshotter = "native"\n'),
    Variant("crun", ("--runtime=crun",)),
    Variant("bwrap", ("--runtime=bwrap",)),
    Variant("unprivileged", ("--runtime=unprivileged",), lacks="can't be had without namespaces"),
)


# $1 the file for /etc/subuid, $2 an empty folder, $3 the account, $4 words: folders that the account needs, $5 words: those above
# them that are closed to it. Each closed one is covered by an empty folder that is open, with the needed ones put back into it.
_BECOME = """
set -e
mount --bind "$1" /etc/subuid; mount --bind "$1" /etc/subgid
mount -t tmpfs none "$2"
for path in $4; do mkdir -p "$2$path"; mount --bind "$path" "$2$path"; done
for path in $5; do mount -t tmpfs -o mode=755 none "$path"; done
for path in $4; do mkdir -p "$path"; mount --bind "$2$path" "$path"; done
who=$3; shift 5
exec setpriv --reuid "$who" --regid "$who" --clear-groups -- "$@"
"""


@dataclass(frozen=True)
class AsAccount(Pybuild):
    """The command of an ordinary account with subordinate ids, in a mount namespace where /etc/subuid names them and where the
    account can get to the interpreter and the code, also if those lie in root's home."""

    def command(self, *args: str) -> list[str]:
        home = os.path.dirname(self.root)
        with open(f"{home}/subids", "w", encoding="ascii") as f:
            f.write(_SUBIDS)
        os.makedirs(f"{home}/needed", exist_ok=True)
        needed = {os.path.realpath(p) for p in (sys.base_prefix, sys.prefix, REPOSITORY)}
        closed = {top for p in needed if (top := _closed(p))}
        among = sorted(p for p in needed if any(p.startswith(top + "/") for top in closed))
        words = [f"{home}/subids", f"{home}/needed", str(ACCOUNT), " ".join(among), " ".join(sorted(closed))]
        return ["unshare", "-m", "sh", "-c", _BECOME, "sh", *words, sys.executable, "-m", "builder", *args]


def _closed(path: str) -> str:
    """The highest folder above ``path`` that others may not pass through."""
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(2, len(parts))]
    return next((p for p in above if not os.stat(p).st_mode & 0o001), "")


@dataclass(frozen=True)
class Outcome:
    """What a build came to. ``steps``: vertex digest -> (name, cached, ran, failed or source)."""

    code: int
    manifest: str
    archive: str
    message: str
    steps: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    def ran(self) -> list[str]:
        """Names of the Dockerfile's steps that did not come from the cache; FROM is none."""
        return [name for name, how in self.steps.values() if how not in ("cached", "source") and is_step(name)]

    def failed(self) -> set[str]:
        return {name for name, how in self.steps.values() if how == "failed"}


def is_step(name: str) -> bool:
    """Whether that is the name of an instruction; FROM is none."""
    return re.match(r"\[[^\]]*\d+/\d+\] ", name) is not None and "] FROM " not in name


class Workshop:
    """Scratch space, and what all cases build on: the OCI layout ``base``."""

    def __init__(self, folder: str, base: str) -> None:
        self.folder = folder
        self.base = base
        self.tally = {"succeeded": 0, "failed": 0}
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)

    def usable(self, variant: Variant) -> str:
        """Empty if this machine can build in that way, else why not."""
        case = Case(0, stages=_PROBE)
        with self.bench(case) as bench:
            done = bench.build(bench.machine(variant), variant)
        return "" if done.ok else done.message or done.text[-500:]

    @contextmanager
    def bench(self, case: Case) -> Iterator[Bench]:
        """A folder for the builds of one scenario, which begins with ``case``."""
        folder = tempfile.mkdtemp(prefix="case-", dir=self.folder)
        try:
            os.chmod(folder, 0o755)
            yield Bench(folder, self.base, case, self.tally)
        finally:
            _remove(folder)


class Bench:
    """One scenario's contexts on disk, and the machines that build them."""

    def __init__(self, folder: str, base: str, case: Case, tally: dict[str, int]) -> None:
        self.folder = folder
        self.base = base
        self.case = case
        self._tally = tally
        self._number = 0
        self._put(case, None, in_place=True)

    def change(self, case: Case, *, in_place: bool) -> None:
        """The context is that of ``case`` now; only what differs is touched."""
        before, self.case = self.case, case
        self._put(case, before, in_place=in_place)

    def _put(self, case: Case, before: Case | None, *, in_place: bool, folder: str = "", owner: int | None = None) -> None:
        folder = folder or self.folder
        trees.write(f"{folder}/context", case.tree(), before and before.tree(), in_place=in_place, owner=owner)
        trees.write(f"{folder}/named", case.named, before and before.named, in_place=in_place, owner=owner)
        with open(f"{folder}/Dockerfile", "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(case.dockerfile())
        with open(f"{folder}/token", "w", encoding="ascii") as f:
            f.write("secret token\n")

    def machine(self, variant: Variant = PLAIN) -> Pybuild:
        """The command on an empty state folder of its own."""
        self._number += 1
        home = f"{self.folder}/m{self._number}"
        os.mkdir(home)
        env: dict[str, str] = {}
        if variant.config:
            with open(f"{home}/pybuild.toml", "w", encoding="utf-8") as f:
                f.write(variant.config)
            env["PYBUILD_CONFIG"] = f"{home}/pybuild.toml"
        if variant.rootless:
            # What only root can read is no use to the account: it has a copy of everything.
            self._put(self.case, None, in_place=True, folder=home, owner=ACCOUNT)
            os.chown(home, ACCOUNT, ACCOUNT)
            return AsAccount(f"{home}/root", env)
        return Pybuild(f"{home}/root", env)

    def build(self, machine: Pybuild, variant: Variant = PLAIN) -> Outcome:
        """An OCI archive with rewritten times, and what became of each step."""
        self._number += 1
        archive = os.path.join(os.path.dirname(machine.root), f"{self._number}.tar")
        output = f"type=oci,dest={archive},rewrite-timestamp=true"
        flags = ["--progress=rawjson", "-o", output, *variant.flags, *self.flags(machine)]
        done = _ended(machine, "build", *flags)
        self._tally["failed" if done.code else "succeeded"] += 1
        manifest = _manifest(archive) if done.code == 0 else ""
        return Outcome(done.code, manifest, archive, _message(done.err), _steps(done.err), _readable(done.err))

    def plan(self, machine: Pybuild) -> Done:
        return _ended(machine, "plan", "--json", *self.flags(machine))

    def flags(self, machine: Pybuild) -> list[str]:
        """What the case is, for any command that takes the flags of a build."""
        where = os.path.dirname(machine.root) if isinstance(machine, AsAccount) else self.folder
        out = [f"--build-context=base=oci-layout://{self.base}", f"--build-context=nctx={where}/named"]
        out += [f"--build-arg={k}={v}" for k, v in self.case.args]
        if not self.case.inside:
            out.append(f"--file={where}/Dockerfile")
        return [*out, f"--secret=id=tok,src={where}/token", f"{where}/context"]


def _ended(machine: Pybuild, *args: str) -> Done:
    """A command that hangs is one that failed."""
    try:
        return machine(*args, env={"SOURCE_DATE_EPOCH": EPOCH})
    except subprocess.TimeoutExpired as e:
        return Done(args, HUNG, "", f"ERROR: internal error: no end after {e.timeout:.0f} s")


def _manifest(archive: str) -> str:
    with tarfile.open(archive) as tar:
        f = tar.extractfile("index.json")
        assert f is not None
        return str(json.loads(f.read())["manifests"][0]["digest"])


def _steps(err: str) -> dict[str, tuple[str, str]]:
    """From raw progress: a step that was looked at and is complete without a mark did run.

    A step without inputs, a WORKDIR on scratch, is a source: BuildKit shows that its key was asked for, and nothing after that.
    """
    names: dict[str, str] = {}
    how: dict[str, str] = {}
    for line in err.splitlines():
        if not line.startswith('{"vertexes"'):
            continue
        for vertex in json.loads(line)["vertexes"]:
            digest = vertex["digest"]
            names.setdefault(digest, vertex.get("name", ""))
            if not vertex.get("inputs") and not vertex.get("error"):
                how[digest] = "source"
                continue
            if vertex.get("cached"):
                how[digest] = "cached"
            elif vertex.get("error"):
                how[digest] = "failed"
            elif vertex.get("completed"):
                how.setdefault(digest, "ran")
    return {digest: (name, how[digest]) for digest, name in names.items() if digest in how}


def _message(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("ERROR: ")]
    return lines[-1] if lines else ""


def _readable(err: str) -> str:
    """Standard error without raw progress."""
    return "\n".join(line for line in err.splitlines() if not line.startswith("{"))


def _remove(folder: str) -> None:
    """With what the account's namespaces own, and folders without permissions: as root all can be removed."""
    from builder.files.trees import remove_tree

    remove_tree(folder)
    shutil.rmtree(folder, ignore_errors=True)

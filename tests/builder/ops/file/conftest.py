"""Trees as dicts, and a cache manager whose refs are plain folders."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from builder.files.checksum import checksum
from builder.files.kept import Kept
from builder.files.owners import REAL, chosen, current
from builder.files.types import ChecksumOptions
from builder.oci.digest import Digest
from builder.ops.file.op import FileOp
from builder.session import Session
from builder.state.database import Database
from builder.values import dataclass, field

OLD = 1_000_000_000 * 10**9
"""Time of every file that ``make`` makes."""

PLAIN = ChecksumOptions()

Spec = dict[str, Any]


def make(root: str, spec: Spec) -> str:
    """Files from ``{"dir/": 0o755, "dir/file": "bytes", "file2": ("bytes", 0o600), "link": "-> to", "hard": "== dir/file"}``."""
    os.makedirs(root, exist_ok=True)
    for path, what in spec.items():
        full = os.path.join(root, path.rstrip("/"))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if path.endswith("/"):
            os.makedirs(full, exist_ok=True)
            current().chmod(full, what or 0o755)
        elif isinstance(what, str) and what.startswith("-> "):
            os.symlink(what[3:], full)
        elif isinstance(what, str) and what.startswith("== "):
            os.link(os.path.join(root, what[3:]), full)
        else:
            data, mode = what if isinstance(what, tuple) else (what, 0o644)
            with open(full, "wb") as f:
                f.write(data.encode() if isinstance(data, str) else data)
            current().chmod(full, mode)
    for folder, folders, files in os.walk(root, topdown=False):
        for name in folders + files:
            os.utime(os.path.join(folder, name), ns=(OLD, OLD), follow_symlinks=False)
        os.utime(folder, ns=(OLD, OLD))
    return root


def show(root: str) -> dict[str, str]:
    """Every path with type, mode and content: ``d 755``, ``f 644 bytes``, ``l target``. A ``*`` marks the time of the build."""
    out: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            st = current().lstat(path)
            mark = "" if st.st_mtime_ns == OLD else "*"
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(st.st_mode):
                out[key] = f"l{mark} {os.readlink(path)}"
            elif stat.S_ISDIR(st.st_mode):
                out[key] = f"d{mark} {stat.S_IMODE(st.st_mode):o}"
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    out[key] = f"f{mark} {stat.S_IMODE(st.st_mode):o} {f.read().decode(errors='replace')}".rstrip()
            else:
                out[key] = f"{stat.filemode(st.st_mode)[0]}{mark} {stat.S_IMODE(st.st_mode):o}"
    return dict(sorted(out.items()))


@dataclass
class Ref:
    """An immutable ref that is a folder."""

    id: str
    folder: str
    log: list[str]

    @contextmanager
    def mount(self) -> Iterator[str]:
        yield self.folder

    def checksum(self, path: str, options: ChecksumOptions = PLAIN) -> Digest:
        return checksum(self.folder, path, options)

    def clone(self) -> Ref:
        self.log.append(f"clone {self.id}")
        return self

    def release(self) -> None:
        self.log.append(f"release {self.id}")


@dataclass
class Mutable(Ref):
    def commit(self) -> Ref:
        self.log.append(f"commit {self.id}")
        return Ref(self.id, self.folder, self.log)


@dataclass
class Cache:
    base: str
    log: list[str] = field(default_factory=list)

    def new(self, parent: Ref | None, *, description: str = "", record_type: str = "regular", retain: bool = False) -> Mutable:
        folder = os.path.join(self.base, f"ref{len(self.log)}")
        if parent is None:
            os.mkdir(folder, 0o755)
        else:
            shutil.copytree(parent.folder, folder, symlinks=True)
        self.log.append(f"new {os.path.basename(folder)}")
        return Mutable(os.path.basename(folder), folder, self.log)


@pytest.fixture
def worker(tmp_path: Any) -> Any:
    """What ops take of a worker."""
    refs, scratch = tmp_path / "refs", tmp_path / "tmp"
    refs.mkdir()
    scratch.mkdir()
    return SimpleNamespace(
        cache=Cache(str(refs)), database=Database(str(tmp_path / "db")), layout=SimpleNamespace(tmp=str(scratch))
    )


class Kit:
    """Makes refs and runs FileOps."""

    def __init__(self, base: str, worker: Any) -> None:
        self.base = base
        self.worker = worker
        self._count = 0

    def ref(self, spec: Spec) -> Ref:
        self._count += 1
        name = f"in{self._count}"
        return Ref(name, make(os.path.join(self.base, name), spec), self.worker.cache.log)

    def op(self, *actions: Any, inputs: int) -> FileOp:
        from builder.graph.ops import File
        from builder.graph.vertex import Edge, Vertex

        edges = tuple(Edge(Vertex(File(()), ()), i) for i in range(inputs))
        return FileOp(Vertex(File(actions), edges), self.worker, Session())  # type: ignore[arg-type]

    def run(self, *actions: Any, inputs: list[Any], warn: Any = None) -> list[dict[str, str]]:
        """Run the actions; each output as ``show`` has it. ``warn`` is told of warnings."""
        from builder.solver.types import OpContext

        op = self.op(*actions, inputs=len(inputs))
        context = OpContext(None, progress=lambda e: warn(e.short) if warn else None)  # type: ignore[arg-type]
        outputs = op.exec(context, inputs)
        return [show(out.folder) for out in outputs]  # type: ignore[attr-defined]


KINDS = {"real": REAL, "kept": Kept(rightless=False), "account": Kept(rightless=True)}
"""How owners are kept."""


@pytest.fixture(params=KINDS)
def kit(tmp_path: Any, worker: Any, request: pytest.FixtureRequest) -> Iterator[Kit]:
    with chosen(KINDS[request.param]):
        yield Kit(str(tmp_path), worker)


@pytest.fixture
def started() -> int:
    return time.time_ns()

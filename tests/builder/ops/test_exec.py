"""ExecOp around a sandbox that is not there: environment, outputs, errors, what is released."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import CancelledError, StepError, UsageError
from builder.graph.ops import CacheMount, Exec, Mount, SecretEnv, SecretMount, SSHMount, TmpfsMount, Ulimit
from builder.graph.vertex import Edge, Vertex
from builder.ops.ahead import before_work
from builder.ops.exec import DEFAULT_PATH, ExecOp
from builder.progress.events import Log
from builder.session import Session
from builder.solver.types import OpContext
from builder.text.quoting import quote
from builder.values import dataclass, field, replace
from runtime.errors import RuntimeFault
from runtime.spec import BindMount, ExitStatus, Process, Sandbox
from runtime.spec import TmpfsMount as SandboxTmpfs

ROOT = Mount("/", 0, 0)
RUN = Exec(("/bin/sh", "-c", "make"), mounts=(ROOT,))


class Ref:
    """Counts what is held; ``events`` tells in what order things happen."""

    def __init__(self, cache: Cache, id: str) -> None:
        self.cache, self.id = cache, id
        cache.held.append(self)

    @contextmanager
    def mount(self) -> Iterator[str]:
        self.cache.mounted += 1
        folder = os.path.join(self.cache.base, self.id)
        os.makedirs(folder, exist_ok=True)
        yield folder
        self.cache.mounted -= 1

    def clone(self) -> Ref:
        return Ref(self.cache, self.id)

    def release(self) -> None:
        if self in self.cache.held:
            self.cache.held.remove(self)

    def commit(self) -> Ref:
        assert not self.cache.mounted, "committed while it is mounted"
        self.release()
        return Ref(self.cache, f"{self.id}-committed")


@dataclass
class Cache:
    base: str
    held: list[Ref] = field(default_factory=list)
    mounted: int = 0
    made: list[tuple[str | None, str]] = field(default_factory=list)
    acquired: list[tuple[str, str, str | None]] = field(default_factory=list)

    def new(self, parent: Ref | None, *, description: str = "") -> Ref:
        from builder.cache.refs import MutableRef

        self.made.append((parent and parent.id, description))
        return type("Mutable", (Ref, MutableRef), {"__init__": Ref.__init__, "id": None})(self, f"m{len(self.made)}")  # type: ignore[no-any-return]

    @property
    def mounts(self) -> Cache:
        return self

    def acquire(self, key: str, sharing: str, base: Ref | None = None, **_: Any) -> Ref:
        self.acquired.append((key, sharing, base and base.id))
        return Ref(self, f"cache-{key}")


class Executor:
    name = "none"

    def __init__(self) -> None:
        self.status = ExitStatus(0)
        self.output: list[tuple[int, bytes]] = []
        self.fault: RuntimeFault | None = None
        self.sandbox: Sandbox | None = None
        self.process: Process | None = None
        self.before_end: Callable[[threading.Event], None] = lambda _: None
        self.refusal: RuntimeFault | None = None

    def admit(self, sandbox: Sandbox) -> None:
        if self.refusal:
            raise self.refusal

    def run(self, sandbox: Sandbox, process: Process, on_output: Any, cancelled: threading.Event) -> ExitStatus:
        self.sandbox, self.process = sandbox, process
        if self.fault:
            raise self.fault
        for stream, data in self.output:
            on_output(stream, data)
        self.before_end(cancelled)
        return self.status


class Bench:
    """Runs an Exec on ``inputs`` refs named in0, in1...; afterwards only outputs may be held."""

    def __init__(self, base: str) -> None:
        self.cache = Cache(base)
        self.executor = Executor()
        os.mkdir(os.path.join(base, "tmp"))
        self.worker: Any = SimpleNamespace(
            cache=self.cache,
            executor=self.executor,
            layout=SimpleNamespace(tmp=os.path.join(base, "tmp")),
            may_mount=True,
            keeps_owners=False,
        )
        self.session = Session()
        self.events: list[Any] = []

    def op(self, op: Exec, inputs: int = 1) -> ExecOp:
        edges = tuple(Edge(Vertex(Exec((f"{i}",)), ())) for i in range(inputs))
        self.vertex = Vertex(op, edges)
        return ExecOp(self.vertex, self.worker, self.session)

    def run(self, op: Exec, inputs: int = 1) -> list[str]:
        refs = [Ref(self.cache, f"in{i}") for i in range(inputs)]
        runner = self.op(op, inputs)
        try:
            results = runner.exec(OpContext(self.vertex, progress=self.events.append), refs)  # type: ignore[arg-type]
            for result in results:
                result.release()
            return [r.id for r in results]
        finally:
            for ref in refs:
                ref.release()
            assert [r.id for r in self.cache.held] == []
            assert self.cache.mounted == 0
            assert os.listdir(self.worker.layout.tmp) == []

    @property
    def env(self) -> tuple[str, ...]:
        assert self.executor.process is not None
        return self.executor.process.env

    @property
    def mounts(self) -> list[tuple[str, ...]]:
        assert self.executor.sandbox is not None
        return [
            (
                m.dest,
                "tmpfs" if isinstance(m, SandboxTmpfs) else os.path.relpath(m.source, self.cache.base),
                "ro" if m.readonly else "rw",
            )
            for m in self.executor.sandbox.mounts
        ]


@pytest.fixture
def bench(tmp_path: Any) -> Bench:
    return Bench(str(tmp_path))


# ------------------------------------------------------------------------------------------------ process
def test_the_root_is_a_new_record_on_the_input_and_becomes_the_output(bench: Bench) -> None:
    assert bench.run(RUN) == ["m1-committed"]
    assert bench.cache.made == [("in0", "mount / from exec /bin/sh -c make")]


def test_a_root_from_scratch(bench: Bench) -> None:
    assert bench.run(replace(RUN, mounts=(Mount("/", -1, 0),)), 0) == ["m1-committed"]
    assert bench.cache.made[0][0] is None


def test_a_path_is_added_where_there_is_none(bench: Bench) -> None:
    bench.run(replace(RUN, env=("A=1", "XPATH=y")))
    assert bench.env == ("A=1", "XPATH=y", "PATH=" + DEFAULT_PATH)
    bench.run(replace(RUN, env=("PATH=",)))
    assert bench.env == ("PATH=",)


def test_proxies_come_in_both_cases_after_the_step_s_own(bench: Bench) -> None:
    """Whichever case they were given in, in the order that BuildKit has."""
    bench.run(replace(RUN, env=("PATH=/bin",), proxy_env=("no_proxy=n", "HTTP_PROXY=h")))
    assert bench.env == ("PATH=/bin", "HTTP_PROXY=h", "http_proxy=h", "NO_PROXY=n", "no_proxy=n")


def test_secrets_come_last_in_the_environment(bench: Bench) -> None:
    bench.session = Session(secret={"s": b"pw\xff"}.get)
    bench.run(replace(RUN, env=("PATH=/bin",), secret_env=(SecretEnv("s", "S"), SecretEnv("none", "N", optional=True))))
    assert bench.env == ("PATH=/bin", "S=pw\udcff", "N=")


def test_a_secret_that_nobody_has(bench: Bench) -> None:
    with pytest.raises(StepError, match=r"^secret s: not found$"):
        bench.run(replace(RUN, secret_env=(SecretEnv("s", "S"),)))
    with pytest.raises(StepError, match=r"^secret s: not found$"):
        bench.run(replace(RUN, mounts=(ROOT, Mount("/s", special=SecretMount("s")))))


def test_an_agent_that_nobody_has(bench: Bench) -> None:
    op = replace(RUN, mounts=(ROOT, Mount("/a", special=SSHMount("default"))))
    with pytest.raises(StepError, match=r'^no SSH key "default" forwarded from the client$'):
        bench.run(op)
    bench.session = Session(ssh={"other": "/s"})
    with pytest.raises(StepError, match=r"^unset ssh forward key default$"):
        bench.run(op)


def test_optional_secrets_and_agents_are_left_out(bench: Bench) -> None:
    bench.run(
        replace(
            RUN,
            mounts=(
                ROOT,
                Mount("/s", special=SecretMount("s", optional=True)),
                Mount("/a", special=SSHMount("default", optional=True)),
            ),
        )
    )
    assert bench.mounts == []


def test_the_sandbox_gets_what_the_step_says(bench: Bench) -> None:
    bench.run(
        replace(
            RUN,
            cwd="/src",
            user="app",
            hostname="h",
            network="none",
            ulimits=(Ulimit("nofile", 1, 2),),
            extra_hosts=(("n", "::1"),),
        )
    )
    sandbox, process = bench.executor.sandbox, bench.executor.process
    assert sandbox is not None
    assert process is not None
    assert (process.args, process.cwd, process.user) == (RUN.args, "/src", "app")
    assert (sandbox.hostname, sandbox.network, sandbox.security) == ("h", "none", "sandbox")
    assert (sandbox.ulimits, sandbox.extra_hosts, sandbox.shm_size) == ((("nofile", 1, 2),), (("n", "::1"),), None)


def test_the_default_network_is_the_sandbox_s(bench: Bench) -> None:
    bench.run(RUN)
    assert bench.executor.sandbox is not None
    assert bench.executor.sandbox.network == "sandbox"


# ------------------------------------------------------------------------------------------------ mounts
def test_binds_by_what_becomes_of_them(bench: Bench) -> None:
    """Read-only: the input. Writable without output: a copy that is thrown away. Outputs in their order, one by one."""
    op = replace(
        RUN,
        mounts=(
            ROOT,
            Mount("/ro", 1, readonly=True),
            Mount("/rw", 1),
            Mount("/out", 1, output=2),
            Mount("/same", 1, output=1, readonly=True),
        ),
    )
    assert bench.run(op, 2) == ["m1-committed", "in1", "m3-committed"]
    assert bench.mounts == [("/out", "m3", "rw"), ("/ro", "in1", "ro"), ("/rw", "m2", "rw"), ("/same", "in1", "ro")]


def test_parents_are_mounted_first_and_relative_targets_are_below_the_workdir(bench: Bench) -> None:
    tmpfs = TmpfsMount(4096)
    op = replace(
        RUN, cwd="/w", mounts=(ROOT, Mount("/a/b", special=tmpfs), Mount("c/./d", special=tmpfs), Mount("/a", special=tmpfs))
    )
    bench.run(op)
    assert [m[0] for m in bench.mounts] == ["/a", "/a/b", "/w/c/d"]


def test_cache_folders_are_taken_in_one_order_and_once(bench: Bench) -> None:
    """Two steps that lock the same folders take them in the same order, whatever the Dockerfile's; one folder at two places is
    one."""

    def folder(dest: str, id: str) -> Mount:
        return Mount(dest, special=CacheMount(id, "locked"))

    bench.run(replace(RUN, mounts=(ROOT, folder("/z", "z"), folder("/a", "a"), folder("/z2", "z"))))
    assert bench.cache.acquired == [("a", "locked", None), ("z", "locked", None)]
    assert bench.mounts == [("/a", "cache-a", "rw"), ("/z", "cache-z", "rw"), ("/z2", "cache-z", "rw")]


def test_a_cache_folder_can_begin_with_files_of_an_input(bench: Bench) -> None:
    bench.run(replace(RUN, mounts=(ROOT, Mount("/c", 1, special=CacheMount("c", "shared")))), 2)
    assert bench.cache.acquired == [("c", "shared", "in1")]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_the_source_of_a_mount_stays_inside(bench: Bench) -> None:
    """A link to / and a path with dots lead to the root of the input. (CVE-2024-1753, CVE-2024-9675)"""
    inside = os.path.join(bench.cache.base, "in1")
    os.makedirs(inside + "/etc")
    os.symlink("/etc", inside + "/link")
    with pytest.raises(StepError, match=r'^mount source "nothing": no such file or directory$'):
        bench.run(replace(RUN, mounts=(ROOT, Mount("/m", 1, selector="nothing", readonly=True))), 2)
    seen: list[list[str]] = []
    open(inside + "/etc/inside", "w").close()

    def look(_: threading.Event) -> None:
        assert bench.executor.sandbox is not None
        (mount,) = bench.executor.sandbox.mounts
        assert isinstance(mount, BindMount)
        seen.append(os.listdir(mount.source))

    bench.executor.before_end = look
    for selector in ("link", "../../../etc", "/etc"):
        bench.run(replace(RUN, mounts=(ROOT, Mount("/m", 1, selector=selector, readonly=True))), 2)
    assert seen == [["inside"]] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_secret_file_is_on_a_file_system_of_its_own(bench: Bench) -> None:
    """With owner and mode as asked for; gone, and never in the state root, when the step is over."""
    bench.session = Session(secret={"s": b"pw"}.get)
    seen: list[Any] = []

    def look(_: threading.Event) -> None:
        assert bench.executor.sandbox is not None
        (mount,) = bench.executor.sandbox.mounts
        assert isinstance(mount, BindMount)
        info = os.stat(mount.source)
        with open(mount.source, "rb") as f:
            seen.append(
                (f.read(), info.st_uid, info.st_gid, oct(info.st_mode & 0o7777), info.st_dev != os.stat(bench.cache.base).st_dev)
            )
        assert (mount.dest, mount.readonly, mount.is_file, mount.noexec, mount.nosuid) == ("/run/s", True, True, True, True)

    bench.executor.before_end = look
    bench.run(replace(RUN, mounts=(ROOT, Mount("/run/s", special=SecretMount("s", 1, 2, 0o440)))))
    assert seen == [(b"pw", 1, 2, "0o440", True)]


# ------------------------------------------------------------------------------------------------ output, errors
def test_output_is_passed_on_as_it_comes(bench: Bench) -> None:
    bench.executor.output = [(1, b"a"), (2, b"b\n")]
    bench.run(RUN)
    assert [(e.stream, e.data, e.digest) for e in bench.events if isinstance(e, Log)] == [
        (1, b"a", bench.vertex.digest),
        (2, b"b\n", bench.vertex.digest),
    ]


def test_a_failing_command(bench: Bench) -> None:
    """BuildKit's text; the code; the last lines it printed, from both streams, cut where there are too many."""
    bench.executor.status = ExitStatus(3)
    bench.executor.output = [(1, b"x" * 200_000 + b"\n"), *((2, f"line {i}\n".encode()) for i in range(100))]
    with pytest.raises(StepError) as caught:
        bench.run(RUN)
    assert str(caught.value) == 'process "/bin/sh -c make" did not complete successfully: exit code: 3'
    assert caught.value.code == 3
    assert caught.value.output == tuple(f"line {i}" for i in range(70, 100))


def test_codes_that_count_as_success(bench: Bench) -> None:
    bench.executor.status = ExitStatus(3)
    assert bench.run(replace(RUN, valid_exit_codes=(0, 3))) == ["m1-committed"]
    bench.executor.status = ExitStatus(0)
    with pytest.raises(StepError, match="exit code: 0"):
        bench.run(replace(RUN, valid_exit_codes=(3,)))


def test_out_of_memory_is_said(bench: Bench) -> None:
    bench.executor.status = ExitStatus(137, 9, oom=True)
    with pytest.raises(StepError, match="exit code: 137") as caught:
        bench.run(RUN)
    assert "out of memory" in caught.value.hint


def test_a_sandbox_that_cannot_be_made(bench: Bench) -> None:
    bench.executor.fault = RuntimeFault("unable to find user x: no matching entries in passwd file", hint="h")
    with pytest.raises(StepError, match="did not complete successfully: unable to find user x") as caught:
        bench.run(RUN)
    assert caught.value.hint == "h"


def test_a_step_that_can_not_be_had_here_is_refused_before_anything_is_mounted(bench: Bench) -> None:
    bench.executor.refusal = RuntimeFault("ulimit nofile=9:9: the hard limit of this process is 8", hint="h")
    with pytest.raises(StepError) as caught:
        bench.run(RUN)
    assert (str(caught.value), caught.value.hint) == (f"RUN can't be executed here: {bench.executor.refusal}", "h")
    assert bench.cache.made == []


def test_what_a_step_builds_on_is_refused_with_it_and_what_builds_on_the_step_is_not(bench: Bench) -> None:
    base = Vertex(Exec(("base",)))
    copy = Vertex(Exec(("copy",)), (Edge(base),))
    step = Vertex(RUN, (Edge(copy),))
    later = Vertex(Exec(("later",)), (Edge(step),))
    ExecOp(step, bench.worker, bench.session)
    bench.executor.refusal = RuntimeFault("no")
    for vertex in (base, copy):
        with pytest.raises(StepError, match="RUN can't be executed here: no"):
            before_work(vertex, bench.session)
    before_work(later, bench.session)
    before_work(Vertex(Exec(("elsewhere",))), bench.session)


def test_a_cancelled_command_is_no_failure_of_the_step(bench: Bench) -> None:
    bench.executor.status = ExitStatus(137, 9)
    bench.executor.before_end = lambda cancelled: cancelled.set()
    with pytest.raises(CancelledError):
        bench.run(RUN)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a b", '"a b"'), ('say "x"\\\n', '"say \\"x\\"\\\\\\n"'), ("\x01é\udcff\u200b", '"\\x01é\\xff\\u200b"'), ("\x7f", '"\\x7f"')],
)
def test_commands_are_quoted_as_go_does(text: str, quoted: str) -> None:
    assert quote(text) == quoted


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("change", "name"), [({"network": "host"}, "network.host"), ({"security": "insecure"}, "security.insecure")]
)
def test_entitlements_have_to_be_granted(bench: Bench, change: dict[str, Any], name: str) -> None:
    op = replace(RUN, **change)
    with pytest.raises(UsageError, match=rf"^{name} is not allowed: the step is to run with --"):
        bench.op(op)
    bench.session = Session(allow=frozenset([name]))
    assert bench.run(op) == ["m1-committed"]


@pytest.mark.parametrize("mounts", [(), (Mount("/", special=TmpfsMount()),), (ROOT, ROOT), (Mount("/", 0, 1),)])
def test_malformed_definitions(bench: Bench, mounts: tuple[Mount, ...]) -> None:
    with pytest.raises(StepError, match="exec op"):
        bench.op(replace(RUN, mounts=mounts))

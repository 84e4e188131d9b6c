"""ExecOp: RUN (BuildKit: solver/llbsolver/ops/exec.go). The key is in ``exec_key``, mounts are in ``mounts``, the sandbox is
runtime's."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import CancelledError, StepError, UsageError
from builder.graph.ops import NO_INPUT, Exec
from builder.oci.platform import host
from builder.ops.ahead import announce
from builder.ops.exec_key import cache_map_of
from builder.ops.foreign import emulator_of
from builder.progress.events import Log, Warned
from builder.solver.types import CacheMap, OpContext, RefusedStepError
from builder.state import trace
from builder.text.quoting import quote
from builder.values import replace

if TYPE_CHECKING:
    from builder.graph.vertex import Vertex
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.worker import Worker
    from runtime.spec import ExitStatus, Process, Sandbox

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_UNPRIVILEGED = "RUN has no sandbox of its own here: steps share the namespaces of the container around (docs/unprivileged.md)"
_TAIL_BYTES = 64 << 10
_TAIL_LINES = 30
_UNITS = ((30, "g"), (20, "m"), (10, "k"), (0, ""))


class ExecOp:
    """See ``builder.solver.types.Op``. UsageError when the step needs an entitlement that was not granted."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, Exec)
        self._op = vertex.op
        self._vertex = vertex
        self._count = len(vertex.inputs)
        self._platform = vertex.platform or host()
        self._worker = worker
        self._session = session
        self._check()
        announce(vertex, session, self._admit)

    def _check(self) -> None:
        op, allow = self._op, self._session.allow
        for wanted, name, flag in (
            (op.network == "host", "network.host", "--network=host"),
            (op.security == "insecure", "security.insecure", "--security=insecure"),
        ):
            if wanted and name not in allow:
                raise UsageError(f"{name} is not allowed: the step is to run with {flag}", hint=f"allow it with --allow {name}")
        if op.devices:
            from builder.ops import devices

            registry = devices.registry_of(self._worker)
            found = devices.granted(op.devices, allow, registry, self._worker.config.cdi_auto_allowed)
            self._op = op = replace(op, devices=found)
        roots = [m for m in op.mounts if m.dest == "/"]
        if len(roots) != 1 or roots[0].special is not None:
            raise StepError("invalid exec op: it needs one bind mount at /")
        outputs = sorted(m.output for m in op.mounts if m.output != NO_INPUT)
        if outputs != list(range(len(outputs))):
            raise StepError(f"duplicate or missing output index in exec op: {outputs}")

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        """See ``exec_key``."""
        return cache_map_of(self._op, self._count, self._platform), True

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        """Run the command; the changed mounts are the outputs. StepError if it fails: then nothing of it is kept."""
        from builder.ops.mounts import PreparedMounts
        from runtime.errors import RuntimeFault

        self._admit()
        if self._worker.executor.name == "unprivileged" and self._worker.is_first("unprivileged"):
            context.emit(Warned(_UNPRIVILEGED))
        with PreparedMounts(self._op, self._worker, self._session, inputs) as mounts:
            try:
                mounts.prepare()
                tail = _Tail()
                process = self._process(mounts.secret_env())
                emulator = emulator_of(self._vertex, self._worker, self._session)
                status = self._run(mounts.sandbox(emulator), process, context, tail)
            except RuntimeFault as fault:
                if context.cancelled.is_set():
                    raise CancelledError("the build was cancelled") from fault
                raise StepError(f"{self._failed}: {fault}", hint=fault.hint) from fault
            if context.cancelled.is_set():
                raise CancelledError("the build was cancelled")
            if status.code not in self._valid_codes:
                killed, hint = self._out_of_memory() if status.oom else ("", self._foreign(tail.lines()))
                cause = f"{self._failed}: exit code: {status.code}{killed}"
                raise StepError(cause, hint=hint, output=tail.lines(), code=status.code)
            return mounts.commit()

    def _admit(self) -> None:
        """RefusedStepError if there is no runtime here, or none that can give the step what it asks for. What the step builds on
        asks too, before it is pulled or copied: so the error names the step."""
        from builder.ops.mounts import PreparedMounts
        from runtime.errors import RuntimeFault

        try:
            self._worker.executor.admit(PreparedMounts(self._op, self._worker, self._session, ()).sandbox())
            emulator_of(self._vertex, self._worker, self._session)
        except RuntimeFault as fault:
            raise RefusedStepError(self._vertex, f"RUN can't be executed here: {fault}", hint=fault.hint) from fault

    def _foreign(self, lines: Sequence[str]) -> str:
        """The hint for a program of another machine. Only the kernel's answer tells: a step for a foreign platform may well run
        programs of this one, as where a base has one platform alone."""
        if not lines or not lines[-1].endswith("exec format error") or self._platform.architecture == host().architecture:
            return ""
        from runtime.foreign import advice

        said = advice(self._platform.architecture)
        return f"the step is for {self._platform}, this machine is {host()}: {said}" if said else ""

    def _out_of_memory(self) -> tuple[str, str]:
        """What is said of a step of which the kernel killed a process, and the hint."""
        limit = self._op.resources.memory
        if not limit:
            return "", "the kernel killed a process of the step: out of memory"
        shown = next(f"{limit >> bits}{unit}" for bits, unit in _UNITS if limit % (1 << bits) == 0)
        return f": killed: out of memory, limit {shown}", f"--resource memory={shown} is the limit: give the step more"

    @property
    def _valid_codes(self) -> Sequence[int]:
        return self._op.valid_exit_codes or (0,)

    @property
    def _failed(self) -> str:
        return f"process {quote(' '.join(self._op.args))} did not complete successfully"

    def _process(self, secret_env: Sequence[str]) -> Process:
        """Environment as BuildKit composes it: the image's and the step's, proxies, a PATH if there is none, secrets."""
        from runtime.spec import Process

        op = self._op
        env = [*op.env, *_both_cases(op.proxy_env)]
        if not any(e.startswith("PATH=") for e in env):
            env.append("PATH=" + DEFAULT_PATH)
        env += secret_env
        if op.devices:
            from builder.ops import devices

            env = devices.with_env(env, devices.edits_of(op.devices, self._worker).env)
        return Process(op.args, tuple(env), op.cwd or "/", op.user)

    def _run(self, sandbox: Sandbox, process: Process, context: OpContext, tail: _Tail) -> ExitStatus:
        from builder.progress.clip import LogClip, limits_of

        digest = context.vertex.digest
        clips = {stream: LogClip(*limits_of(os.environ)) for stream in (1, 2)}

        def on_output(stream: int, data: bytes) -> None:
            tail.add(data)
            if shown := clips[stream](data):
                context.emit(Log(digest, stream, shown, time.monotonic()))

        with trace.span("step", "run", args=" ".join(self._op.args), runtime=self._worker.executor.name):
            status = self._worker.executor.run(sandbox, process, on_output, context.cancelled)
        if status.code not in self._valid_codes:
            for stream, clip in clips.items():
                if rest := clip.rest():
                    context.emit(Log(digest, stream, rest, time.monotonic()))
        return status


class _Tail:
    """The last lines of a step's output, for its error."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= _TAIL_BYTES:
            self._size -= len(self._chunks.popleft())

    def lines(self) -> tuple[str, ...]:
        text = b"".join(self._chunks)[-_TAIL_BYTES:].decode("utf-8", "replace")
        return tuple(text.splitlines()[-_TAIL_LINES:])


def _both_cases(proxy_env: Sequence[str]) -> list[str]:
    """Each proxy variable in upper and lower case, in BuildKit's order, the later value of one name counting."""
    values = {name.upper(): value for name, _, value in (e.partition("=") for e in proxy_env)}
    return [f"{n}={values[name]}" for name in _PROXIES if values.get(name) for n in (name, name.lower())]

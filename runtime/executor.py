"""The executor interface, and the choice of the one to use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from runtime.errors import RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.linux.namespaces import Entered
    from runtime.spec import Cancelled, ExitStatus, Process, Sandbox

NAMES = ("native", "runc", "crun", "bwrap")
KEEPING = NAMES[0]
"""The one that answers a step's system calls about owners, in a user namespace of one id."""
LAST = "unprivileged"
"""Where none of NAMES can work: the step shares the namespaces of whatever container is around, which is its sandbox."""


class Executor(Protocol):
    """Runs one process in one sandbox. Objects hold no state of a run: many threads may call ``run`` at once."""

    @property
    def name(self) -> str:
        """As --runtime names it."""

    def check(self) -> None:
        """RuntimeFault with a hint if this executor can't work on this host, or could not keep a step from the host's devices."""

    def admit(self, sandbox: Sandbox) -> None:
        """RuntimeFault with a hint if the options of ``sandbox`` can't be had here. Looks at none of its files."""

    def check_emulation(self, rule: str) -> None:
        """RuntimeFault with a hint if this executor can't run programs of another machine by ``rule`` (runtime.emulation)."""

    def run(
        self,
        sandbox: Sandbox,
        process: Process,
        on_output: Callable[[int, bytes], None],
        cancelled: Cancelled,
    ) -> ExitStatus:
        """Run to the end. ``on_output(1 or 2, bytes)`` is called in the order of arrival, from the calling thread.

        A process that fails is an ExitStatus; RuntimeFault is for a sandbox that can't be set up, with the option or
        file at fault. Once ``cancelled`` is set the whole sandbox is killed and the status is that of signal 9. When
        this returns, no process, mount or file of the sandbox is left but what it wrote into rootfs and mounts.
        """


def find_program(name: str) -> str | None:
    """Path of a program on PATH, or in the sbin folders that PATH often lacks for ordinary users."""
    more = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
    for folder in (*os.environ.get("PATH", "").split(":"), *more):
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.realpath(path)
    return None


def select(name: str | None = None, entered: Entered | None = None, *, owners: bool = False) -> Executor:
    """The executor called ``name``; with None the first of NAMES that is installed and can work, and LAST where none does.

    ``entered``: where the process is; where it could get nowhere, only LAST can work, and why is told. ``owners``: it must be able
    to run a sandbox with a file for owners (``Sandbox.owners``). RuntimeFault: unknown name, the named one is missing, or none can
    work.
    """
    reasons = list(entered.reasons) if entered is not None and entered.kind == "none" else []
    if name is not None:
        executor = _make(name)
        if reasons and name != LAST:
            raise RuntimeFault(f"{name} can't be had here: {'; '.join(reasons)}", hint=entered.hint if entered else "")
        if owners and not reasons and name != KEEPING:
            raise RuntimeFault(
                f"{name} can't keep the owners of files where there is one id only",
                hint="use --runtime native, or give the account ranges in /etc/subuid and /etc/subgid",
            )
        executor.check()
        return executor
    hint = entered.hint if entered is not None and reasons else "run as root, or let unprivileged users make user namespaces"
    for candidate in (LAST,) if reasons else (KEEPING,) if owners else (*NAMES, LAST):
        executor = _make(candidate)
        try:
            executor.check()
        except RuntimeFault as fault:
            reasons.append(str(fault))
            continue
        return executor
    raise RuntimeFault("no way to run a sandbox: " + "; ".join(reasons), hint=hint)


def _make(name: str) -> Executor:
    if name == "native":
        from runtime.native.executor import NativeExecutor

        return NativeExecutor()
    if name in ("runc", "crun"):
        from runtime.runc import OciExecutor

        return OciExecutor(name)
    if name == "bwrap":
        from runtime.bwrap import BubblewrapExecutor

        return BubblewrapExecutor()
    if name == "unprivileged":
        from runtime.unprivileged.executor import UnprivilegedExecutor

        return UnprivilegedExecutor()
    raise RuntimeFault(f"unknown runtime {name}", hint="one of: " + ", ".join((*NAMES, LAST)))


def require_program(name: str, package: str, other: str) -> str:
    """Path of the program, or RuntimeFault naming the package to install and the other runtime to try."""
    path = find_program(name)
    if path is None:
        raise RuntimeFault(f"{name} not found", hint=f"apt install {package} or use --runtime {other}")
    return path

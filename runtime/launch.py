"""What all executors share: checking a request, preparing the rootfs, running a Job through the zygote."""

from __future__ import annotations

import itertools
import os
import select
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runtime import complaints, limits, places, zygote
from runtime import user as users
from runtime.capabilities import SYS_RESOURCE
from runtime.complaints import Complaint
from runtime.errors import RuntimeFault
from runtime.job import GONE, Job, Report
from runtime.linux.userns import has_capability
from runtime.oci import absolute
from runtime.spec import ULIMIT_NAMES, BindMount, ExitStatus, Process, Sandbox, TmpfsMount
from runtime.stubs import Stubs
from runtime.user import User
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime.facts import Facts
    from runtime.spec import Cancelled

# Existing folders that P1's tmpfs can cover: the first that nothing of the sandbox lies in.
_SCRATCH_FOLDERS = ("/mnt", "/media", "/srv", "/opt", "/run", "/home", "/tmp", "/var")

_counter = itertools.count(1)
_ROOT = User(0, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request: the sandbox with clean mounts, the process with HOME, an absolute cwd and its user's numbers.

    ``passed`` are folders that the way to the cwd goes through and leaves again: ``/w`` of ``/w/../y``.
    """

    sandbox: Sandbox
    process: Process
    user: User
    facts: Facts
    passed: tuple[str, ...] = ()


def check(sandbox: Sandbox, process: Process, facts: Facts) -> Request:
    """Check what was asked for against what this host can do. RuntimeFault names the option at fault."""
    check_options(sandbox, facts)
    if not process.args:
        raise RuntimeFault("no command to run")
    for text in (*process.args, *process.env, process.cwd, sandbox.hostname):
        if "\0" in text:
            raise RuntimeFault("a command, environment variable or folder contains a NUL byte")
    for mount in sandbox.mounts:
        if isinstance(mount, BindMount) and not os.path.lexists(mount.source):
            raise RuntimeFault(f"mount {mount.dest}: {mount.source} does not exist")
        if isinstance(mount, TmpfsMount) and mount.size < 0:
            raise RuntimeFault(f"mount {mount.dest}: invalid tmpfs size {mount.size}")
    user = users.resolve(sandbox.rootfs, process.user)
    if not sandbox.owners and not (facts.has_uid(user.uid) and facts.has_gid(user.gid)):
        raise RuntimeFault(
            f"user {user.uid}:{user.gid} does not exist in this user namespace",
            hint="give the account a range in /etc/subuid and /etc/subgid, or run as root",
        )
    env = process.env
    if not any(entry.startswith("HOME=") for entry in env):
        env = (*env, f"HOME={user.home}")
    cwd, passed = places.way_to(sandbox.rootfs, process.cwd or "/")
    return Request(places.with_tmpfs_modes(sandbox), replace(process, env=env, cwd=cwd), user, facts, passed)


def check_options(sandbox: Sandbox, facts: Facts) -> None:
    """The part of ``check`` that needs no files. RuntimeFault names the option at fault."""
    if sandbox.network not in ("sandbox", "host", "none"):
        raise RuntimeFault(f"unknown network mode {sandbox.network}")
    if sandbox.security not in ("sandbox", "insecure"):
        raise RuntimeFault(f"unknown security mode {sandbox.security}")
    _check_ulimits(sandbox, facts)


def check_cgroup_parent(sandbox: Sandbox, facts: Facts) -> None:
    """RuntimeFault if --cgroup-parent is asked for and can't be had."""
    if sandbox.cgroup_parent and (facts.user_namespace or facts.cgroups.kind == "none"):
        why = "in a user namespace" if facts.user_namespace else facts.cgroups.reason
        raise RuntimeFault(f"--cgroup-parent has no effect here: no cgroup can be made: {why}", hint="leave the option out")


def check_devices(sandbox: Sandbox, facts: Facts) -> None:
    """RuntimeFault if the sandbox is to have devices of the host and nothing could limit it to those."""
    if sandbox.devices and (facts.user_namespace or facts.cgroups.kind == "none"):
        why = "in a user namespace" if facts.user_namespace else facts.cgroups.reason
        raise RuntimeFault(f"RUN --device can't be had here: no devices cgroup can be made: {why}", hint="run as root")


def check_resources(sandbox: Sandbox, facts: Facts) -> None:
    """RuntimeFault if the sandbox is to be limited in a way that can't be had."""
    from runtime import cgroups, resources

    asked = resources.asked(sandbox.resources)
    if not asked:
        return
    if facts.user_namespace:
        why = f"--resource {next(iter(asked))} has no effect here: no cgroup can be made: in a user namespace"
        raise RuntimeFault(why, hint="leave the option out")
    if refusal := resources.refusal(facts.cgroups, sandbox.resources, cgroups.parent_of(sandbox.cgroup_parent)):
        raise RuntimeFault(refusal, hint="leave the option out, or ask for what this machine has")


def _check_ulimits(sandbox: Sandbox, facts: Facts) -> None:
    import resource

    # The kernel asks for the right in the first user namespace.
    may_raise = has_capability(SYS_RESOURCE) and not facts.user_namespace

    for name, soft, hard in sandbox.ulimits:
        if name not in ULIMIT_NAMES:
            raise RuntimeFault(f"ulimit {name}: unknown name", hint="one of: " + ", ".join(ULIMIT_NAMES))
        if soft < -1 or hard < -1 or (hard != -1 and (soft == -1 or soft > hard)):
            raise RuntimeFault(f"ulimit {name}={soft}:{hard}: the soft limit must not exceed the hard limit")
        _, top = resource.getrlimit(limits.NUMBERS[name])
        if top != -1 and (hard == -1 or hard > top) and not may_raise:
            raise RuntimeFault(
                f"ulimit {name}={soft}:{hard}: the hard limit of this process is {top}",
                hint="raising it needs root with CAP_SYS_RESOURCE",
            )


def rlimits(sandbox: Sandbox) -> tuple[tuple[int, int, int], ...]:
    """(number, soft, hard) for setrlimit."""
    return tuple((limits.NUMBERS[name], soft, hard) for name, soft, hard in sandbox.ulimits)


def scratch_folder(request: Request) -> str:
    """A folder of the host whose content the sandbox does not need, to mount P1's tmpfs on (in P1's namespace only)."""
    sandbox = request.sandbox
    needed = [sandbox.rootfs, sandbox.owners or "/", *(m.source for m in sandbox.mounts if isinstance(m, BindMount))]
    resolved = [os.path.realpath(path) + "/" for path in needed]
    for folder in _SCRATCH_FOLDERS:
        if os.path.isdir(folder) and not os.path.islink(folder):
            prefix = folder + "/"
            if not any(path.startswith(prefix) for path in resolved):
                return folder
    raise RuntimeFault("no folder to keep a sandbox's state in", hint="make the folder /mnt")


def device_mounts(sandbox: Sandbox) -> tuple[str, ...]:
    """The mounts of the sandbox in which device nodes may be opened, by their paths in the builder's namespace."""
    return (sandbox.rootfs, *(m.source for m in sandbox.mounts if isinstance(m, BindMount) and not m.nodev and not m.is_file))


def run_id() -> str:
    """Unique among the living: names the container and its cgroup; the pid lets others sweep after us."""
    return f"{os.getpid()}-{next(_counter)}"


def run(name: str, request: Request, job: Job, on_output: Callable[[int, bytes], None], cancelled: Cancelled) -> ExitStatus:
    """Prepare the rootfs, run ``job`` of the runtime ``name``, remove the stubs. RuntimeFault if the sandbox could not be set up.

    A command that can't be started is an exit status of 1 and a line on standard error, whatever the runtime says.
    """
    try:
        with prepared(request):
            return run_prepared(name, request, job, on_output, cancelled)
    except places.CommandFault as fault:
        return not_started(str(fault), ExitStatus(1), on_output)


@contextmanager
def prepared(request: Request) -> Iterator[None]:
    """The working folder and the places of mounts are there; in the end the places that nothing is in are taken away.

    RuntimeFault; places.CommandFault.
    """
    sandbox, process = request.sandbox, request.process
    stubs = Stubs(sandbox.rootfs, [absolute(m.dest) for m in sandbox.mounts], recursive=sandbox.remove_stubs_recursive)
    try:
        for folder in request.passed:
            places.make_cwd(sandbox.rootfs, folder, _ROOT, real_owners=not sandbox.owners)
        places.make_cwd(sandbox.rootfs, process.cwd, request.user, real_owners=not sandbox.owners)
        places.make_mount_points(sandbox)
        yield
    finally:
        stubs.clean()


def run_prepared(
    name: str, request: Request, job: Job, on_output: Callable[[int, bytes], None], cancelled: Cancelled
) -> ExitStatus:
    """The job in a rootfs that is ``prepared``. As ``run``."""
    listener = complaints.Listener(name, on_output)
    report = start(job, listener, cancelled)
    if report is None:
        return ExitStatus(137, 9)
    signal = report.code - 128 if 128 < report.code <= 192 else 0
    status = ExitStatus(report.code, signal, report.max_rss, report.cpu_seconds, report.oom)
    complaint = complaint_of(name, request, job, report, listener.held)
    if complaint is None:
        listener.release()
        return status
    if complaint.command:
        return not_started(complaint.text, status, on_output)
    raise RuntimeFault(f"cannot set up the sandbox: {complaint.text}" if report.error else f"{name}: {complaint.text}")


def complaint_of(name: str, request: Request, job: Job, report: Report, said: str) -> Complaint | None:
    """Why the command was not started, if it was not. ``said`` is the first that came on standard error."""
    if report.error or report.refused:
        return Complaint(report.error or report.refused, not report.error)
    if job.container:
        return None  # it was started, and what it says is its own
    # bubblewrap notes the code of a command that it could start; an OCI runtime that fails ends with 1 and says why.
    if report.code == 0 or (report.code != 1 and not job.status) or '"exit-code"' in report.status:
        return None
    text, command = report.log or said, request.process.args[0]
    inside = (job.scratch, request.sandbox.rootfs)
    found = complaints.explain(name, text, command=command, cwd=request.process.cwd, inside=inside) if text else None
    if found is None and job.status:
        return Complaint(f"it ended with exit code {report.code} before the command ran", False)
    return found


def not_started(text: str, status: ExitStatus, on_output: Callable[[int, bytes], None]) -> ExitStatus:
    """The end of a command that could not be started: a line on standard error, and 1."""
    on_output(2, (text + "\n").encode("utf-8", "surrogateescape"))
    return replace(status, code=1)


def start(job: Job, on_output: Callable[[int, bytes], None], cancelled: Cancelled) -> Report | None:
    """Start the job and pump its output. None if it was cancelled; returns when all of the sandbox is dead."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    words = os.memfd_create("words")
    try:
        try:
            control, helper = zygote.submit(job.encode(), out_write, err_write, words)
        finally:
            os.close(out_write)
            os.close(err_write)
        with control:
            try:
                return _pump(control, {out_read: 1, err_read: 2}, on_output, cancelled)
            except _SilenceError:
                said = zygote.said(words)
                raise RuntimeFault(helper.death() or f"the sandbox's supervisor died{said}", hint=_KILLED) from None
    finally:
        os.close(words)
        os.close(out_read)
        os.close(err_read)


def _pump(
    control: socket.socket,
    streams: dict[int, int],
    on_output: Callable[[int, bytes], None],
    cancelled: Cancelled,
) -> Report | None:
    """Until GONE and the end of both streams: all writers die before GONE, so the streams end."""
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    poll.register(control, select.POLLIN)
    watched = cancelled.fileno()
    if watched >= 0:
        poll.register(watched, select.POLLIN)
    open_streams = set(streams)
    report: Report | None = None
    gone = killed = False
    try:
        while open_streams or not gone:
            ready = [fd for fd, _ in poll.poll()]
            if cancelled.is_set() and not killed:
                killed = True
                poll.unregister(watched)
                control.shutdown(socket.SHUT_WR)
            for fd in ready:
                if fd in streams:
                    data = os.read(fd, 1 << 16)
                    if not data:
                        open_streams.discard(fd)
                        poll.unregister(fd)
                    elif not killed:
                        on_output(streams[fd], data)
                elif fd == control.fileno() and not gone:
                    packet = _receive(control)
                    if packet and packet != GONE:
                        report = report or Report.decode(packet)
                        continue
                    if not packet and not (report and report.error):
                        raise _SilenceError
                    gone = True
                    poll.unregister(control)
    except BaseException:
        # An error of on_output or KeyboardInterrupt: nothing may outlive this call.
        _kill(control)
        raise
    if killed:
        return None
    if report is None:
        raise _SilenceError
    return report


class _SilenceError(Exception):
    """The other end of the control socket is closed, and nothing was said of why."""


_KILLED = "if the machine ran out of memory, the kernel's log says whom it killed: dmesg | grep -i oom"


def _receive(control: socket.socket) -> bytes:
    try:
        return control.recv(1 << 17)
    except ConnectionResetError:
        return b""


def _kill(control: socket.socket) -> None:
    try:
        control.shutdown(socket.SHUT_WR)
        while _receive(control) not in (GONE, b""):
            pass
    except OSError:
        pass  # the supervisor is dead already

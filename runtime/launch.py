"""What all executors share: checking a request, preparing the rootfs, running a Job through the zygote."""

from __future__ import annotations

import itertools
import os
import select
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runtime import facts as facts_module
from runtime import mountpoints, zygote
from runtime import user as users
from runtime.capabilities import SYS_RESOURCE
from runtime.errors import RuntimeFault, UnsafePathError
from runtime.linux.namespaces import has_capability
from runtime.linux.safepath import open_in_root, resolve_in_root
from runtime.oci import absolute
from runtime.spec import ULIMIT_NAMES, BindMount, ExitStatus, Process, Sandbox, TmpfsMount
from runtime.stubs import Stubs
from runtime.supervisor import GONE, Job, Report
from runtime.user import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.facts import Facts
    from runtime.spec import Cancelled

# Seconds between two looks at the cancel event. An Event can't be polled together with pipes.
_CANCEL_INTERVAL = 0.05

_RLIMIT_NUMBERS = {
    "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7, "memlock": 8, "locks": 10,
    "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}  # fmt: skip

# Existing folders that P1's tmpfs can cover: the first that nothing of the sandbox lies in.
_SCRATCH_FOLDERS = ("/mnt", "/media", "/srv", "/opt", "/run", "/home", "/tmp", "/var")

_counter = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request: the sandbox with clean mounts, the process with HOME, an absolute cwd and its user's numbers."""

    sandbox: Sandbox
    process: Process
    user: User
    facts: Facts


def check(sandbox: Sandbox, process: Process) -> Request:
    """Check what was asked for against what this host can do. RuntimeFault names the option at fault."""
    facts = facts_module.probe()
    if sandbox.network not in ("sandbox", "host", "none"):
        raise RuntimeFault(f"unknown network mode {sandbox.network}")
    if sandbox.security not in ("sandbox", "insecure"):
        raise RuntimeFault(f"unknown security mode {sandbox.security}")
    if not process.args:
        raise RuntimeFault("no command to run")
    for text in (*process.args, *process.env, process.cwd, sandbox.hostname):
        if "\0" in text:
            raise RuntimeFault("a command, environment variable or folder contains a NUL byte")
    _check_ulimits(sandbox)
    for mount in sandbox.mounts:
        if isinstance(mount, BindMount) and not os.path.lexists(mount.source):
            raise RuntimeFault(f"mount {mount.dest}: {mount.source} does not exist")
        if isinstance(mount, TmpfsMount) and mount.size < 0:
            raise RuntimeFault(f"mount {mount.dest}: invalid tmpfs size {mount.size}")
    user = users.resolve(sandbox.rootfs, process.user)
    if not (facts.has_uid(user.uid) and facts.has_gid(user.gid)):
        raise RuntimeFault(
            f"user {user.uid}:{user.gid} does not exist in this user namespace",
            hint="give the account a range in /etc/subuid and /etc/subgid, or run as root",
        )
    env = process.env
    if not any(entry.startswith("HOME=") for entry in env):
        env = (*env, f"HOME={user.home}")
    return Request(sandbox, replace(process, env=env, cwd=absolute(process.cwd or "/")), user, facts)


def _check_ulimits(sandbox: Sandbox) -> None:
    import resource

    for name, soft, hard in sandbox.ulimits:
        if name not in ULIMIT_NAMES:
            raise RuntimeFault(f"ulimit {name}: unknown name", hint="one of: " + ", ".join(ULIMIT_NAMES))
        if soft < -1 or hard < -1 or (hard != -1 and (soft == -1 or soft > hard)):
            raise RuntimeFault(f"ulimit {name}={soft}:{hard}: the soft limit must not exceed the hard limit")
        _, top = resource.getrlimit(_RLIMIT_NUMBERS[name])
        if top != -1 and (hard == -1 or hard > top) and not has_capability(SYS_RESOURCE):
            raise RuntimeFault(
                f"ulimit {name}={soft}:{hard}: the hard limit of this process is {top}",
                hint="raising it needs CAP_SYS_RESOURCE",
            )


def rlimits(sandbox: Sandbox) -> tuple[tuple[int, int, int], ...]:
    """(number, soft, hard) for setrlimit."""
    return tuple((_RLIMIT_NUMBERS[name], soft, hard) for name, soft, hard in sandbox.ulimits)


def scratch_folder(request: Request) -> str:
    """A folder of the host whose content the sandbox does not need, to mount P1's tmpfs on (in P1's namespace only)."""
    needed = [request.sandbox.rootfs] + [m.source for m in request.sandbox.mounts if isinstance(m, BindMount)]
    resolved = [os.path.realpath(path) + "/" for path in needed]
    for folder in _SCRATCH_FOLDERS:
        if os.path.isdir(folder) and not os.path.islink(folder):
            prefix = folder + "/"
            if not any(path.startswith(prefix) for path in resolved):
                return folder
    raise RuntimeFault("no folder to keep a sandbox's state in", hint="make the folder /mnt")


def run_id() -> str:
    """Unique among the living: names the container and its cgroup; the pid lets others sweep after us."""
    return f"{os.getpid()}-{next(_counter)}"


def execute(
    request: Request, job: Job, on_output: Callable[[int, bytes], None], cancelled: Cancelled
) -> tuple[ExitStatus, Report]:
    """Prepare the rootfs, run ``job``, remove the stubs. RuntimeFault if the sandbox could not be set up."""
    destinations = [absolute(mount.dest) for mount in request.sandbox.mounts]
    stubs = Stubs(request.sandbox.rootfs, destinations, recursive=request.sandbox.remove_stubs_recursive)
    try:
        _make_cwd(request)
        _make_mount_points(request)
        report = _run(job, on_output, cancelled)
    finally:
        stubs.clean()
    if report is None:
        return ExitStatus(137, 9), Report()
    if report.error:
        raise RuntimeFault(f"cannot set up the sandbox: {report.error}")
    signal = report.code - 128 if 128 < report.code <= 192 else 0
    return ExitStatus(report.code, signal, report.max_rss, report.cpu_seconds, report.oom), report


def _make_mount_points(request: Request) -> None:
    """Those of the runtime's own mounts and of the sandbox's, but for places inside another mount.

    /proc, /dev and /sys that are not folders are left for the runtime to refuse.
    """
    rootfs = request.sandbox.rootfs
    wanted = [(f"/{name}", False) for name in ("proc", "dev", "sys") if not os.path.lexists(f"{rootfs}/{name}")]
    wanted += [("/etc/resolv.conf", True), ("/etc/hosts", True)]
    outer = ["/proc", "/dev", "/sys"]
    for mount in request.sandbox.mounts:
        dest = absolute(mount.dest)
        if not any(dest.startswith(f"{above}/") for above in outer):
            wanted.append((dest, isinstance(mount, BindMount) and not os.path.isdir(mount.source)))
        outer.append(dest)
    for dest, is_file in wanted:
        try:
            os.close(mountpoints.make(rootfs, dest, is_file=is_file))
        except (OSError, UnsafePathError) as error:
            raise RuntimeFault(f"cannot make the mount point {dest}: {_reason(error)}") from None


def _make_cwd(request: Request) -> None:
    """A missing working folder is made, with its missing parents, as the user's own (0755), links resolved in the root."""
    rootfs, cwd = request.sandbox.rootfs, request.process.cwd
    try:
        path = resolve_in_root(rootfs, cwd)
    except (OSError, UnsafePathError) as error:
        raise RuntimeFault(f"working dir {cwd} points to invalid target: {_reason(error)}") from None
    root_fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _present(root_fd, path):
            _make_folders(root_fd, path, request.user)
    except OSError as error:
        raise RuntimeFault(f"failed to create working directory {cwd}: {error.strerror}") from None
    finally:
        os.close(root_fd)


def _present(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in_root(root_fd, path, os.O_PATH))
    except FileNotFoundError:
        return False
    return True


def _make_folders(root_fd: int, path: str, user: User) -> None:
    done = ""
    for name in path.split("/"):
        parent = open_in_root(root_fd, done, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
            except FileExistsError:
                pass
            else:
                made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                try:
                    os.fchown(made, user.uid, user.gid)
                    os.fchmod(made, 0o755)
                finally:
                    os.close(made)
        finally:
            os.close(parent)
        done = f"{done}/{name}"


def _reason(error: OSError | UnsafePathError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _run(job: Job, on_output: Callable[[int, bytes], None], cancelled: Cancelled) -> Report | None:
    """Start the job and pump its output. None if it was cancelled; returns when all of the sandbox is dead."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        try:
            control = zygote.submit(job.encode(), out_write, err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
        with control:
            return _pump(control, {out_read: 1, err_read: 2}, on_output, cancelled)
    finally:
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
    open_streams = set(streams)
    report: Report | None = None
    gone = killed = False
    try:
        while open_streams or not gone:
            ready = [fd for fd, _ in poll.poll(None if killed else _CANCEL_INTERVAL * 1000)]
            if cancelled.is_set() and not killed:
                killed = True
                control.shutdown(socket.SHUT_WR)
            for fd in ready:
                if fd in streams:
                    data = os.read(fd, 1 << 16)
                    if not data:
                        open_streams.discard(fd)
                        poll.unregister(fd)
                    elif not killed:
                        on_output(streams[fd], data)
                elif not gone:
                    packet = _receive(control)
                    if packet == GONE:
                        gone = True
                        poll.unregister(control)
                    elif packet:
                        report = Report.decode(packet)
                    else:
                        raise RuntimeFault("the sandbox's supervisor died")
    except BaseException:
        # An error of on_output or KeyboardInterrupt: nothing may outlive this call.
        _kill(control)
        raise
    if killed:
        return None
    if report is None:
        raise RuntimeFault("the sandbox was killed from outside")
    return report


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

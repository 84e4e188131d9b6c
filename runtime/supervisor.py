"""What runs between the builder and a sandbox's runtime program, so that nothing is left behind whatever dies first.

    builder --- zygote --- S (one a sandbox) --- P1, pid 1 of its own pid and mount namespace --- runc, crun or bwrap

Each asks the kernel to be killed with its parent (PR_SET_PDEATHSIG); when P1 dies the kernel kills all of its pid
namespace, and its mounts go with the mount namespace. S stays outside to tell the builder when all that has happened.
P1's private tmpfs holds the runtime's state, the bundle and small files: nothing of it ever reaches a disk.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time

from runtime import cgroups, mountpoints, netns
from runtime.job import GONE, STATUS_FD, Job, Report, TreeMount, words
from runtime.linux import mounts, syscalls
from runtime.linux.processes import ending
from runtime.native import start as native


def supervise(job_fd: int, control: socket.socket, stdout: int, stderr: int, zygote: int) -> None:
    """S: the child that the zygote forks for one sandbox; its own standard error is what it can say when it dies. Never returns."""
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != zygote:
            os._exit(1)
        size = os.fstat(job_fd).st_size
        job = Job.decode(os.pread(job_fd, size, 0))
        os.close(job_fd)
        if job.bare:
            from runtime.unprivileged import keeper

            keeper.keep(job, control, stdout, stderr, zygote)
        _run_first(job, control, stdout, stderr)
        control.send(GONE)
    except BaseException as error:
        _send(control, Report(error=words(error)).encode())
        _send(control, GONE)
    finally:
        os._exit(0)


def _run_first(job: Job, control: socket.socket, stdout: int, stderr: int) -> None:
    """Fork P1 and wait until it, and with it its whole pid namespace, is gone."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS)
    except OSError as error:
        raise OSError(error.errno, f"making a pid namespace is refused: {error.strerror}") from None
    alive_read, alive_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(alive_write)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            # S may have died before the line above: then nobody would kill us. getppid() is always 0 here.
            poll = select.poll()
            poll.register(alive_read, 0)
            if not poll.poll(0):
                report = _first(job, control, stdout, stderr)
                _send(control, report.encode())
        except BaseException as error:
            _send(control, Report(error=words(error)).encode())
        finally:
            os._exit(0)
    os.close(stdout)
    os.close(stderr)
    os.close(alive_read)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        # It had no time to say so itself. A report that came before counts.
        _send(control, Report(error=f"the sandbox {ending(status)}").encode())
    _remove_groups(job)


def _send(control: socket.socket, data: bytes) -> None:
    try:
        control.send(data)
    except OSError:
        pass  # the builder is gone; so will we be


def _remove_groups(job: Job) -> None:
    """All processes are dead, but a group stays busy until the last one is reaped: try for a moment."""
    deadline = time.monotonic() + 0.5
    while job.groups and not cgroups.remove(list(job.groups), list(job.group_folders)) and time.monotonic() < deadline:
        time.sleep(0.002)


def _first(job: Job, control: socket.socket, stdout: int, stderr: int) -> Report:
    """P1: set the private mounts up, run the program, tell how it went."""
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    _prepare(job)
    try:
        child, service = native.start(job, stdout, stderr) if job.container else (_spawn(job, stdout, stderr), None)
    except native.CommandRefusedError as refused:
        return Report(code=1, refused=str(refused))
    os.close(stdout)
    os.close(stderr)
    status, cpu, max_rss = _wait(child, service, control)
    log = _errors_logged(job)
    usage = cgroups.Usage()
    if job.groups:
        usage = cgroups.usage(job.groups[1], job.groups[0], job.group_kind)
    code = os.waitstatus_to_exitcode(status)
    return Report(
        code=code if code >= 0 else 128 - code,
        max_rss=usage.max_rss or max_rss,
        cpu_seconds=usage.cpu_seconds or cpu,
        oom=usage.oom,
        log=log,
        status=_read_status(job),
    )


def _prepare(job: Job) -> None:
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    try:
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    except PermissionError:
        pass  # a container around us masks its own: that one, in which we are too, has to do
    for folder in job.cover:
        mounts.tmpfs(folder, mode=0o755)
    for folder in job.allow_devices:
        try:
            mounts.clear_attributes(folder, syscalls.MOUNT_ATTR_NODEV)
        except mounts.MountError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):  # no mount of ours, or Linux before 5.12: it stays as it is
                raise
    # The runtime's init re-executes from here on some versions: not noexec.
    mounts.tmpfs(job.scratch, mode=0o711)
    for folder in job.folders:
        os.makedirs(f"{job.scratch}/{folder}", exist_ok=True)
    for name in job.files:
        data = job.data(name)
        path = f"{job.scratch}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755 if name in job.programs else 0o644)
    if job.own_network:
        netns.enter(f"{job.scratch}/sys")
    if job.tree:
        _assemble(job)


def _assemble(job: Job) -> None:
    """Put the sandbox's root together at scratch/tree, for a program that would follow links of the rootfs out of it."""
    root = f"{job.scratch}/tree"
    os.mkdir(root)
    for mount in job.tree:
        if mount.dest == "/":
            mounts.bind(mount.source, root, readonly=False)
            continue
        target = mountpoints.make(root, mount.dest, is_file=mount.is_file)
        try:
            _mount_on(target, mount)
        finally:
            os.close(target)
    if job.tree_cwd:
        os.close(mountpoints.make(root, job.tree_cwd, is_file=False))


def _mount_on(target: int, mount: TreeMount) -> None:
    attributes = mount.attributes
    if not mount.source:
        readonly = bool(attributes & syscalls.MOUNT_ATTR_RDONLY)
        mounts.tmpfs(target, size=mount.size or None, mode=mount.mode, readonly=readonly)
        return
    mounts.bind(
        mount.source,
        target,
        readonly=bool(attributes & syscalls.MOUNT_ATTR_RDONLY),
        nodev=bool(attributes & syscalls.MOUNT_ATTR_NODEV),
        nosuid=bool(attributes & syscalls.MOUNT_ATTR_NOSUID),
        noexec=bool(attributes & syscalls.MOUNT_ATTR_NOEXEC),
    )


def _spawn(job: Job, stdout: int, stderr: int) -> int:
    """Fork and exec the program with nothing open but 0, 1, 2 and the files of ``job.fds``. OSError if it can't be started."""
    stdin = os.open(f"{job.scratch}/{job.stdin}" if job.stdin else "/dev/null", os.O_RDONLY)
    opened = {number: os.open(f"{job.scratch}/{name}", os.O_RDONLY) for name, number in job.fds.items()}
    if job.status:
        opened[STATUS_FD] = os.open(f"{job.scratch}/{job.status}", os.O_WRONLY | os.O_CREAT, 0o600)
    failed_read, failed_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # First out of the way of the numbers to come, then into place.
            placed = {0: stdin, 1: stdout, 2: stderr, **opened}
            high = 64 + max(placed)
            lifted = {}
            for offset, number in enumerate(placed):
                os.dup2(placed[number], high + offset)
                lifted[number] = high + offset
            failed = os.dup2(failed_write, high + len(placed), inheritable=False)
            os.closerange(3, high)
            for number, fd in lifted.items():
                os.dup2(fd, number, inheritable=True)
                os.close(fd)
            os.closerange(failed + 1, 1 << 20)
            # Python and the zygote ignore some signals, whoever called pybuild may ignore others (nohup), and exec keeps that.
            for name in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                if signal.getsignal(name) is not signal.SIG_DFL:
                    signal.signal(name, signal.SIG_DFL)
            os.execve(job.argv[0], job.argv, _environment(job))
        except BaseException as error:
            os.write(failed, words(error).encode())
        finally:
            os._exit(127)
    os.close(failed_write)
    for fd in (stdin, *opened.values()):
        os.close(fd)
    with open(failed_read, "rb") as pipe:
        reason = pipe.read().decode("utf-8", "replace")
    if reason:
        os.waitpid(child, 0)
        raise OSError(None, reason, job.argv[0])
    return child


def _environment(job: Job) -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/",
        "XDG_RUNTIME_DIR": f"{job.scratch}/state",
    }


def _wait(child: int, service: int | None, control: socket.socket) -> tuple[int, float, int]:
    """Wait for the program, reaping as pid 1 must. A word or the end of the control socket: die at once, and all with us.

    OSError if ``service``, without which the program can't go on, ends before it.
    """
    watched = os.pidfd_open(child)
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLRDHUP)
    poll.register(watched, select.POLLIN)
    beside = None if service is None else os.pidfd_open(service)
    if beside is not None:
        poll.register(beside, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if control.fileno() in ready:
            os._exit(0)
        if beside is not None and beside in ready:
            _check_service(service)
            poll.unregister(beside)
            beside = None
        if watched in ready:
            _, status, used = os.wait4(child, 0)
            os.close(watched)
            if beside is not None and status != 0:
                # Maybe it failed for want of answers: whose end is the cause is seen later than its effect.
                last = select.poll()
                last.register(beside, select.POLLIN)
                if last.poll(100):
                    _check_service(service)
            return status, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _check_service(service: int | None) -> None:
    """It has ended: of itself, with 0, where nobody is left for whom it could answer, or OSError."""
    assert service is not None
    _, status = os.waitpid(service, 0)
    if status != 0:
        raise OSError(errno.ECHILD, "the process that answers the step's system calls died")


def _errors_logged(job: Job) -> str:
    """The messages of level error in the runtime's JSON log."""
    import json

    if not job.log:
        return ""
    found: list[str] = []
    try:
        with open(f"{job.scratch}/{job.log}", encoding="utf-8", errors="replace") as file:
            for line in file.read(1 << 20).splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry.get("level") in ("error", "fatal"):
                    found.append(str(entry.get("msg", "")))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return "; ".join(found)[:16_000]


def _read_status(job: Job) -> str:
    if not job.status:
        return ""
    with open(f"{job.scratch}/{job.status}", encoding="utf-8", errors="replace") as file:
        return file.read(1 << 14)

"""A small process, forked while the builder has no threads yet, that forks the supervisor of each sandbox.

Forking from a worker thread of a large process is slow and unsafe, and a child's PR_SET_PDEATHSIG would fire when that
thread ends. ``start`` it from main right after the mount namespace was entered; else the first run starts one as a program.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading

from runtime.errors import RuntimeFault


class Zygote:
    """The builder's end. Safe to use from many threads."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._owner = os.getpid()

    @property
    def usable(self) -> bool:
        """False in a process forked from the one that started it."""
        return self._owner == os.getpid()

    def submit(self, job: bytes, stdout: int, stderr: int) -> socket.socket:
        """Start a sandbox with the encoded ``supervisor.Job``; returns our end of its control socket.

        OSError if the helper is gone.
        """
        job_fd = os.memfd_create("job")
        try:
            view = memoryview(job)
            while view:
                view = view[os.write(job_fd, view) :]
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    socket.send_fds(self._channel, [b"j"], [job_fd, theirs.fileno(), stdout, stderr])
                except OSError:
                    ours.close()
                    raise
            return ours
        finally:
            os.close(job_fd)

    def stop(self) -> None:
        """End it, and every sandbox still running."""
        self._channel.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass


_running: Zygote | None = None
_lock = threading.Lock()


def start() -> None:
    """Fork the helper from this process, which must not have threads yet. Does nothing if one runs already."""
    global _running
    if _running is not None and _running.usable:
        return
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeFault("the sandbox helper must be started before any thread")
    parent_pidfd = os.pidfd_open(os.getpid())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            serve(theirs, parent_pidfd)
        finally:
            os._exit(1)
    theirs.close()
    os.close(parent_pidfd)
    _running = Zygote(pid, ours)


def get() -> Zygote:
    """The running helper, or a new one as a program of its own."""
    global _running
    with _lock:
        if _running is None or not _running.usable:
            _running = _launch()
        return _running


def submit(job: bytes, stdout: int, stderr: int) -> socket.socket:
    """``Zygote.submit`` on the running helper. One that died (the kernel's OOM killer takes what it likes) is replaced."""
    helper = get()
    try:
        return helper.submit(job, stdout, stderr)
    except (BrokenPipeError, ConnectionError):
        _forget(helper)
    try:
        return get().submit(job, stdout, stderr)
    except OSError as error:
        raise RuntimeFault(f"the sandbox helper process is gone: {error.strerror}") from None


def _forget(helper: Zygote) -> None:
    global _running
    with _lock:
        if _running is helper:
            helper.stop()
            _running = None


def stop() -> None:
    """End the helper if there is one."""
    global _running
    with _lock:
        if _running is not None and _running.usable:
            _running.stop()
        _running = None


def _launch() -> Zygote:
    """``python -m runtime.zygote``: for callers that have threads already (the Python API, tests)."""
    import sys

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # This very package, whatever else of its name the working folder or PYTHONPATH has; the folder it lies in is on the path no
    # longer than that needs, since it may be site-packages, which has to stand behind the standard library.
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); import runtime; del sys.path[0]; "
        "from runtime.zygote import main; main(int(sys.argv[1]), int(sys.argv[2]))"
    )
    with theirs:
        number = theirs.fileno()
        theirs.set_inheritable(True)
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code, str(number), str(os.getpid()), source], os.environ)
    return Zygote(pid, ours)


def main(channel_fd: int, parent: int) -> None:
    """Entry of the helper as a program of its own."""
    parent_pidfd = os.pidfd_open(parent)
    if os.getppid() != parent:
        os._exit(1)
    serve(socket.socket(fileno=channel_fd), parent_pidfd)


def serve(channel: socket.socket, parent_pidfd: int) -> None:
    """The helper's loop: fork a supervisor for each message, until the builder is gone. Never returns."""
    from runtime import supervisor

    # Away from the terminal: its Ctrl-C is for the builder, which then ends us in order.
    os.setsid()
    _close_all_but(channel.fileno(), parent_pidfd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Supervisors report for themselves: no zombies to collect.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    zygote = os.getpid()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(parent_pidfd, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if parent_pidfd in ready:
            os._exit(0)
        data, fds, _, _ = socket.recv_fds(channel, 16, 4, socket.MSG_CMSG_CLOEXEC)
        if not data:
            os._exit(0)
        job_fd, control_fd, stdout, stderr = fds
        if os.fork() == 0:
            try:
                channel.close()
                os.close(parent_pidfd)
                supervisor.supervise(job_fd, socket.socket(fileno=control_fd), stdout, stderr, zygote)
            finally:
                os._exit(1)
        for fd in fds:
            os.close(fd)


def _close_all_but(*kept: int) -> None:
    """Nothing the builder, or who started it, had open may reach a sandbox (CVE-2024-21626), nor be held open by us."""
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    first = 3
    for number in sorted({*kept}):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, 1 << 20)

"""A small process, started by the first run, that forks the supervisor of each sandbox.

Forking from a worker thread of a large process is slow and unsafe, and a child's PR_SET_PDEATHSIG would fire when that
thread ends. So it is a program of its own, and each supervisor is a fork of that.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading

from runtime.errors import RuntimeFault
from runtime.linux.processes import close_all_but, ending


class Zygote:
    """The builder's end. Safe to use from many threads. ``words``: a file in memory that is the helper's standard error."""

    def __init__(self, pid: int, channel: socket.socket, words: int) -> None:
        self.pid = pid
        self._channel = channel
        self._owner = os.getpid()
        self._words = words
        self._lock = threading.Lock()
        self._status: int | None = None

    @property
    def usable(self) -> bool:
        """False in a process forked from the one that started it."""
        return self._owner == os.getpid()

    def submit(self, job: bytes, stdout: int, stderr: int, words: int) -> socket.socket:
        """Start a sandbox with the encoded ``job.Job``; returns our end of its control socket. ``words`` is the file that the
        supervisor has as standard error.

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
                    socket.send_fds(self._channel, [b"j"], [job_fd, theirs.fileno(), stdout, stderr, words])
                except OSError:
                    ours.close()
                    raise
            return ours
        finally:
            os.close(job_fd)

    def death(self) -> str:
        """What ended it, in words; "" if it lives. Waits a moment for a helper that is on its way out."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            pass  # dead, and waited for already
        else:
            try:
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                if not poll.poll(1000):
                    return ""
            finally:
                os.close(handle)
        return f"the sandbox helper process {ending(self._wait())}{said(self._words)}"

    def stop(self) -> None:
        """End it, and every sandbox still running."""
        self._channel.close()
        self._wait()

    def _wait(self) -> int | None:
        """Its wait status; None if somebody else has waited for it."""
        with self._lock:
            if self._status is None:
                try:
                    self._status = os.waitpid(self.pid, 0)[1]
                except ChildProcessError:
                    return None
            return self._status


def said(words: int) -> str:
    """ ": " and the last line of a file in memory, or nothing."""
    lines = os.pread(words, 1 << 16, 0).decode("utf-8", "replace").split("\n")
    return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")


_running: Zygote | None = None
_lock = threading.Lock()


def get() -> Zygote:
    """The running helper, or a new one as a program of its own."""
    global _running
    with _lock:
        if _running is None or not _running.usable:
            _running = _launch()
        return _running


def submit(job: bytes, stdout: int, stderr: int, words: int) -> tuple[socket.socket, Zygote]:
    """``Zygote.submit`` on the running helper, and that. One that died (the kernel's OOM killer takes what it likes) is
    replaced."""
    helper = get()
    try:
        return helper.submit(job, stdout, stderr, words), helper
    except (BrokenPipeError, ConnectionError):
        _forget(helper)
    helper = get()
    try:
        return helper.submit(job, stdout, stderr, words), helper
    except OSError as error:
        raise RuntimeFault(helper.death() or f"the sandbox helper process is gone: {error.strerror}") from None


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
    """The helper as a program of its own: this process may have threads."""
    import sys

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # This very package, whatever else of its name the working folder or PYTHONPATH has; the folder it lies in is on the path no
    # longer than that needs, since it may be site-packages, which has to stand behind the standard library.
    code = (
        "import sys; sys.path.insert(0, sys.argv[4]); import runtime; del sys.path[0]; "
        "from runtime.zygote import main; main(*map(int, sys.argv[1:4]))"
    )
    words = os.memfd_create("words")
    with theirs:
        numbers = (theirs.fileno(), os.getpid(), words)
        theirs.set_inheritable(True)
        os.set_inheritable(words, True)
        # -P: a module called socket in the working folder, a project's, is not the standard library's.
        pid = os.posix_spawn(sys.executable, [sys.executable, "-P", "-c", code, *map(str, numbers), source], os.environ)
        os.set_inheritable(words, False)
    return Zygote(pid, ours, words)


def main(channel_fd: int, parent: int, words: int) -> None:
    """Entry of the helper as a program of its own."""
    os.dup2(words, 2)
    parent_pidfd = os.pidfd_open(parent)
    if os.getppid() != parent:
        os._exit(1)
    serve(socket.socket(fileno=channel_fd), parent_pidfd, words)


def serve(channel: socket.socket, parent_pidfd: int, words: int) -> None:
    """The helper's loop: fork a supervisor for each message, until the builder is gone. Never returns."""
    from runtime import supervisor  # noqa: F401  (now, while the builder has other things to do)

    # Away from the terminal: its Ctrl-C is for the builder, which then ends us in order.
    os.setsid()
    _close_all_but(channel.fileno(), parent_pidfd, words=words)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(parent_pidfd, select.POLLIN)
    # By pidfd: each supervisor, and the control socket by which we tell for it how it died, should it not be able to.
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if parent_pidfd in ready:
            os._exit(0)
        for handle in ready & children.keys():
            poll.unregister(handle)
            pid, control = children.pop(handle)
            _bury(handle, pid, control, [other for other, _ in children.values()])
        if channel.fileno() in ready:
            data, fds, _, _ = socket.recv_fds(channel, 16, 5, socket.MSG_CMSG_CLOEXEC)
            if not data:
                os._exit(0)
            others = [channel.fileno(), parent_pidfd, *children, *(control.fileno() for _, control in children.values())]
            child = _fork(fds, others)
            if child is not None:
                handle, pid, control = child
                children[handle] = pid, control
                poll.register(handle, select.POLLIN)


def _fork(fds: list[int], others: list[int]) -> tuple[int, int, socket.socket] | None:
    """A supervisor for one message: (pidfd, pid, its control socket). ``others``: what it must not have open.

    A failure is the sandbox's, told by its control socket, and nobody else's.
    """
    from runtime import supervisor

    control: socket.socket | None = None
    try:
        control = socket.socket(fileno=fds[1])
        job_fd, _, stdout, stderr, words = fds  # fewer, if this process may open no more files
        zygote = os.getpid()
        if b'"bare": true' in os.pread(job_fd, os.fstat(job_fd).st_size, 0):
            from runtime.unprivileged import keeper

            keeper.adopt()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(words, 2)
                for fd in (*others, words):
                    os.close(fd)
                supervisor.supervise(job_fd, control, stdout, stderr, zygote)
            finally:
                os._exit(1)
        try:
            return os.pidfd_open(pid), pid, control
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except (OSError, ValueError, IndexError) as error:
        if control is not None:
            reason = error.strerror if isinstance(error, OSError) else "too many open files"
            _tell(control, f"cannot start a process: {reason}")
            control.close()
        return None
    finally:
        for fd in fds[:1] + fds[2:]:
            os.close(fd)


def _bury(handle: int, pid: int, control: socket.socket, others: list[int]) -> None:
    """``others``: the supervisors that live. Without namespaces what a killed one leaves behind is ours (keeper.adopt)."""
    os.close(handle)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        from runtime.unprivileged import keeper

        keeper.kill_adopted(others)
        _tell(control, f"the sandbox's supervisor {ending(status)}")
    control.close()


def _tell(control: socket.socket, error: str) -> None:
    from runtime.job import Report

    try:
        control.send(Report(error=error).encode(), socket.MSG_DONTWAIT)
    except OSError:
        pass  # the builder does not listen any more


def _close_all_but(*kept: int, words: int) -> None:
    """Nothing the builder, or who started it, had open may reach a sandbox (CVE-2024-21626), nor be held open by us. What is
    written to standard output or error goes to ``words``."""
    os.dup2(os.memfd_create("empty"), 0)
    os.dup2(words, 1)
    os.dup2(words, 2)
    close_all_but(*kept)

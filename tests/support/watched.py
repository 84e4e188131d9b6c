"""pybuild with a watcher inside: ``python watched.py LOG ARGS...`` writes what the process and its forks do to LOG, line by line.

``connect ADDRESS``, ``exec PROGRAM`` and ``mount CALL`` are what a cached build must not do. Audit hooks see what Python itself
does; mounts go through ctypes and are watched at pybuild's one door to those system calls.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

_EVENTS = {
    "socket.connect": "connect",
    "socket.getaddrinfo": "connect",
    "subprocess.Popen": "exec",
    "os.posix_spawn": "exec",
    "os.exec": "exec",
}


def main() -> int:
    log = sys.argv[1]
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))

    def note(kind: str, what: object) -> None:
        # By name each time: forks close descriptors they don't know. One that can't see the name is in a sandbox.
        try:
            fd = os.open(log, os.O_WRONLY | os.O_APPEND)
        except OSError:
            return
        os.write(fd, f"{kind} {what}\n".encode())
        os.close(fd)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            note(_EVENTS[event], args)

    sys.addaudithook(hook)
    from runtime.linux import syscalls

    for name in ("mount", "fsopen", "open_tree", "move_mount"):
        setattr(syscalls, name, _watched(name, getattr(syscalls, name), note))
    from builder.cli.main import main as pybuild

    return pybuild(sys.argv[2:])


def _watched(name: str, call: Any, note: Any) -> Any:
    @functools.wraps(call)
    def watched(*args: Any, **more: Any) -> Any:
        # Making the mounts of the new namespace private mounts nothing.
        if not (name == "mount" and args[0] is None and args[2] is None):
            note("mount", f"{name}{args}")
        return call(*args, **more)

    return watched


if __name__ == "__main__":
    sys.exit(main())

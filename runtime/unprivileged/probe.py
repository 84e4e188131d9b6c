"""Does the kernel let us answer system calls here? Tried once, with a child that makes one."""

from __future__ import annotations

import functools
import os

from runtime.linux import notify, syscalls
from runtime.unprivileged import traps


@functools.cache
def refusal(architecture: str) -> str:
    """Why not, in words; "" if it works. A seccomp policy around us may refuse it, a kernel may be too old."""
    said_read, said_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            # "statfs" is asked about: nothing here makes that call.
            os.close(notify.install(traps.program(architecture, ("statfs",), only_creating=False)))
            os.write(said_write, b"works")
        except OSError as error:
            os.write(said_write, f"seccomp user notification: {error.strerror}".encode())
        finally:
            os._exit(0)
    os.close(said_write)
    with open(said_read, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    return "" if said == "works" else said or "the process that tries it died"

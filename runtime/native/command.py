"""Finding and executing the command, with the words that runc (Go's exec.LookPath and runc's init) has for each failure."""

from __future__ import annotations

import json
import os
import signal
import stat
from typing import NoReturn

# Go's words for what execve and stat fail with; others are the C library's, in small letters.
_SAID = {7: "argument list too long", 8: "exec format error"}


class RefusedError(Exception):
    """The command can't be started, for a reason of its own."""


def enter_folder(cwd: str, *, may_fail: bool) -> bool:
    """chdir, making what is missing, as runc does (a folder in a mount can't be made before the mount is there).

    ``may_fail``: False is given where root is not let in; the command's user may be (a FUSE or NFS mount).
    """
    raw = _bytes(cwd)
    try:
        try:
            os.chdir(raw)
        except FileNotFoundError:
            os.makedirs(raw, 0o755, exist_ok=True)
            os.chdir(raw)
    except PermissionError as error:
        if may_fail:
            return False
        raise _no_folder(cwd, error) from None
    except FileNotFoundError as error:
        raise RefusedError(f"mkdir {cwd}: {_reason(error)}") from None
    except OSError as error:
        raise _no_folder(cwd, error) from None
    # The kernel tells a folder outside of the root by "(unreachable)": no way there is known, and none is wanted.
    if not os.getcwdb().startswith(b"/"):
        raise RefusedError("current working directory is outside of container mount namespace root")
    return True


def _no_folder(cwd: str, error: OSError) -> RefusedError:
    return RefusedError(f"chdir to cwd ({_quoted(cwd)}) failed: {_reason(error)}")


def execute(args: list[str], env: list[str]) -> NoReturn:
    """Become the command. RefusedError."""
    # Python and those above us ignore some signals, and exec keeps that.
    for name in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(name) is not signal.SIG_DFL:
            signal.signal(name, signal.SIG_DFL)
    environment: dict[bytes, bytes] = {}
    for entry in env:
        name_of, _, value = entry.partition("=")
        environment[_bytes(name_of)] = _bytes(value)
    path = _find(args[0], environment.get(b"PATH", b""))
    try:
        os.execve(path, [_bytes(arg) for arg in args], environment)
    except OSError as error:
        raise RefusedError(f"exec {path.decode('utf-8', 'surrogateescape')}: {_reason(error)}") from None


def _find(program: str, path: bytes) -> bytes:
    """The file, as exec.LookPath finds it: by PATH only where the name has no slash, and folders are passed over."""
    raw = _bytes(program)
    if "/" in program:
        try:
            mode = os.stat(raw).st_mode
        except OSError as error:
            raise RefusedError(f"exec: {_quoted(program)}: stat {program}: {_reason(error)}") from None
        if stat.S_ISDIR(mode) or not os.access(raw, os.X_OK, effective_ids=True):
            raise RefusedError(f"exec: {_quoted(program)}: permission denied")
        return raw
    for folder in path.split(b":"):
        # A relative entry would be the working folder's, which Go refuses.
        if program and folder.startswith(b"/"):
            candidate = folder + b"/" + raw
            try:
                if not stat.S_ISDIR(os.stat(candidate).st_mode) and os.access(candidate, os.X_OK, effective_ids=True):
                    return candidate
            except OSError:
                continue
    raise RefusedError(f"exec: {_quoted(program)}: executable file not found in $PATH")


def _reason(error: OSError) -> str:
    return _SAID.get(error.errno or 0) or os.strerror(error.errno or 0).lower()


def _quoted(text: str) -> str:
    """As Go's %q, near enough for a message."""
    return json.dumps(text, ensure_ascii=False)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

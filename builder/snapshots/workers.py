"""Unpacking in forked children: making files is Python work, and several layers at once would only fight for the interpreter.

The parent inflates and hashes (which releases the interpreter) and sends the tar through a pipe; the child makes the files and
sends back what ``unpack`` returned or raised. Both waits of the parent's end with its token. A child holds no lock, lease or
connection of its parent: it closes every file it inherited. It ends with the pipe, so it can't outlive a parent that was killed.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterable, Iterator

from builder.errors import LayerError, StoreError
from builder.files import copying  # noqa: F401
from builder.files.apply import unpack
from builder.files.types import NeedsParent, Unpacked
from builder.snapshots.catalog import saving
from builder.state.cancel import readable, writable
from builder.state.disk import write_all

_PIPE_SIZE = 1 << 20
_ERRORS = {kind.__name__: kind for kind in (LayerError, NeedsParent, StoreError)}

# Forking is a matter of some milliseconds in which the parent stands still; one at a time. Also keeps a child from
# inheriting the pipes of a sibling that is just being made.
_forking = threading.Lock()


def unpack_in_child(chunks: Iterable[bytes], folder: str, *, bottom: bool, lower: str | None) -> Unpacked:
    """As ``unpack``, with the same errors; ``lower`` is the mounted parent, None if it is not there yet.

    Errors of ``chunks`` pass through; the child is ended then.
    """
    with _forking:
        tar_read, tar_write = os.pipe2(os.O_CLOEXEC)
        answer_read, answer_write = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _child(tar_read, answer_write, folder, bottom, lower)
        os.close(tar_read)
        os.close(answer_write)
    _widen(tar_write)
    os.set_blocking(tar_write, False)
    answer = b""
    complete = False
    try:
        try:
            _send(chunks, tar_write)
        finally:
            os.close(tar_write)
        # The child may be busy for seconds yet with what lies in the pipe, or with the disk.
        while readable(answer_read) and (part := os.read(answer_read, 1 << 20)):
            answer += part
        complete = True
    finally:
        os.close(answer_read)
        if not complete:
            # A stream that broke off between two members would look like a whole one.
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return _result(answer)


def _widen(fd: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        pass  # over the user's limit: slower, no more


def _send(chunks: Iterable[bytes], fd: int) -> None:
    """All chunks, or until the child has failed and reads no more: what it failed of may be endless. CancelledError."""
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                writable(fd)
            except BrokenPipeError:
                return


def _child(tar: int, answer: int, folder: str, bottom: bool, lower: str | None) -> None:
    """Never returns. Nothing here may take a lock or import a module: a thread of the parent may have held its lock
    (which is why the applier's lazy imports are done above)."""
    # A file object collected here would close a number that means one of our own files by then.
    gc.disable()
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
    except ValueError:
        pass  # not forked from the main thread: Python calls no handlers here then
    try:
        low, high = sorted((tar, answer))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, 1 << 20)
        with saving(folder):
            unpacked = unpack(_received(tar), folder, bottom=bottom, lower=lambda: lower)
        text = _serialise(unpacked)
    except (LayerError, StoreError) as e:
        text = "\0".join((type(e).__name__ if type(e).__name__ in _ERRORS else "LayerError", str(e), e.hint))
    except BaseException as e:
        text = "\0".join(("StoreError", f"unpacking failed: {type(e).__name__}: {e}", ""))
    try:
        write_all(answer, text.encode("utf-8", "surrogateescape"))
    finally:
        os._exit(0)


def _received(fd: int) -> Iterator[bytes]:
    while chunk := os.read(fd, _PIPE_SIZE):
        yield chunk


def _serialise(unpacked: Unpacked) -> str:
    """Names hold no NUL, so NUL divides: numbers, whiteouts, an empty field, opaques."""
    numbers = ["", str(unpacked.size), str(unpacked.inodes)]
    return "\0".join([*numbers, *unpacked.whiteouts, "", *unpacked.opaques, ""])


def _result(answer: bytes) -> Unpacked:
    fields = answer.decode("utf-8", "surrogateescape").split("\0")
    if fields[0]:
        raise _ERRORS[fields[0]](fields[1], hint=fields[2])
    if len(fields) < 5:
        raise StoreError("the process that unpacked a layer was killed", hint="out of memory?")
    divide = fields.index("", 3)
    return Unpacked(int(fields[1]), int(fields[2]), frozenset(fields[3:divide]), frozenset(fields[divide + 1 : -1]))

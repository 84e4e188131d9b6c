"""Writing a file that the user named: ``dest=`` of an output, ``--iidfile``, ``--metadata-file``, ``save -o``.

The name may lead to anything. What is no regular file (/dev/null, a FIFO, a descriptor such as a shell's ``>(cmd)``) is opened and
written through: a rename would put a regular file where the device was. Links are followed. Regular files are replaced whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from builder.errors import StoreError, UsageError
from builder.state.atomic import NewFile, Write
from builder.values import dataclass

STDOUT = "-"
_LINKS = 40  # the kernel's own limit
_DESCRIPTORS = re.compile(r"(/proc/\d+)(?:/task/\d+)?/fd")
_PIECE = 1 << 20
_NOBODY = 65534
"""In a user namespace: an owner who has no number there. A file can't be given back to him."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a name leads to: a descriptor of this process, or a ``path`` that ends in no link (but for ``foreign``, a descriptor of
    another process: that link only the kernel can follow). ``status`` None: nothing is there."""

    path: str
    status: os.stat_result | None = None
    fd: int | None = None
    foreign: bool = False

    @property
    def is_file(self) -> bool:
        """A regular file, or none yet: what can be replaced."""
        return self.fd is None and not self.foreign and (self.status is None or stat.S_ISREG(self.status.st_mode))


@contextmanager
def user_file(path: str, *, parents: bool = False) -> Iterator[Write]:
    """A ``write`` for the file that the user calls ``path``; ``-`` is standard output.

    - A regular file, or nothing: there when the block ends without an error, whole. Mode and owner stay those of the old file.
      Where no file can be put in its place (it is mounted, or its folder is not writable) it is overwritten.
    - A link is followed; a dangling one makes its target.
    - A device or FIFO is written through.
    - A descriptor of this process (``/dev/stdout``, ``/dev/fd/N``) is written from where it stands.

    It is opened at the first ``write``, or at the end: a failure before that touches nothing. Opening a FIFO waits for its reader.

    ``parents`` makes the folders above. UsageError as ``find_place``; StoreError if it can't be written.
    """
    place = find_place(path)
    with ExitStack() as stack:
        file: _Through | _Replacement | None = None

        def opened() -> _Through | _Replacement:
            nonlocal file
            if file is None:
                if parents and place.fd is None:
                    os.makedirs(os.path.dirname(place.path), exist_ok=True)
                file = _open(place)
                stack.push(file)
            return file

        def write(data: bytes) -> None:
            with _telling(path):
                opened().write(data)

        yield write
        with _telling(path):
            opened().finish()


def find_place(path: str) -> Place:
    """Follow the links of ``path``, and refuse what can't be written: so that a wrong name does not cost a build.

    UsageError for folders, sockets, descriptors that are not open, and for others' links and FIFOs in a folder where everybody may
    make them (as the kernel's fs.protected_symlinks and protected_fifos: a link in /tmp could lead root to /etc/passwd).
    """
    if path == STDOUT:
        return _descriptor(path, 1)
    with _refusing(path):
        here = os.path.join(os.getcwd(), path)
        for _ in range(_LINKS):
            folder, name = os.path.split(here)
            folder = os.path.realpath(folder)
            here = os.path.join(folder, name)
            if name in ("", ".", ".."):
                raise _is_folder(path)
            if (match := _DESCRIPTORS.fullmatch(folder)) and name.isdecimal():
                if match[1] == os.path.realpath("/proc/self"):
                    return _descriptor(path, int(name))
                return _checked(path, Place(here, os.stat(here), foreign=True))
            try:
                status = os.lstat(here)
            except FileNotFoundError:
                return Place(here)
            if not stat.S_ISLNK(status.st_mode):
                return _checked(path, Place(here, status))
            _refuse_planted(path, here, status)
            here = os.path.join(folder, os.readlink(here))
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _checked(path: str, place: Place) -> Place:
    assert place.status is not None
    mode = place.status.st_mode
    if stat.S_ISDIR(mode):
        raise _is_folder(path)
    if stat.S_ISSOCK(mode):
        raise UsageError(f"can't write {path}: it is a socket", hint="name a file, a FIFO, or - for standard output")
    if stat.S_ISFIFO(mode) and not place.foreign:
        _refuse_planted(path, place.path, place.status)
    return place


def _is_folder(path: str) -> UsageError:
    return UsageError(f"destination file {path} is a directory", hint="name a file, or use tar=false")


def _descriptor(path: str, fd: int) -> Place:
    """Only what the process was started with: its own files are closed on exec, and must not be written through this door."""
    try:
        inherited = not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except (OSError, OverflowError):
        inherited = False
    if not inherited:
        what = "standard output" if fd == 1 else f"descriptor {fd}"
        raise UsageError(f"can't write {path}: {what} is closed")
    return Place(path, fd=fd)


def _refuse_planted(path: str, here: str, status: os.stat_result) -> None:
    if _is_planted(here, status):
        kind = "FIFO" if stat.S_ISFIFO(status.st_mode) else "link"
        raise UsageError(f"can't write {path}: the {kind} {here} belongs to another user, in a folder that all may write to")


def _is_planted(here: str, status: os.stat_result) -> bool:
    folder = os.stat(os.path.dirname(here))
    shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    return bool(shared) and status.st_uid not in (os.geteuid(), folder.st_uid)


def _open(place: Place) -> _Through | _Replacement:
    if place.is_file:
        folder = os.path.dirname(place.path)
        if place.status is None or os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            return _Replacement(place)
    return _Through(place)


class _Through:
    """Written where it is."""

    def __init__(self, place: Place) -> None:
        if place.fd is not None:
            if place.fd == 1 and sys.stdout is not None:
                sys.stdout.flush()  # what was printed before comes before
            self._fd = os.dup(place.fd)
            return
        found = place.status
        assert found is not None
        # Another process's file is appended to: it is written by that one too.
        how = os.O_APPEND if place.foreign else os.O_NOFOLLOW
        self._fd = os.open(place.path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC | how)
        now = os.fstat(self._fd)
        if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
            os.close(self._fd)
            raise OSError(errno.ESTALE, "it was replaced meanwhile")
        if place.is_file:
            os.ftruncate(self._fd, 0)

    def __enter__(self) -> _Through:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # a pipe that another program has set to O_NONBLOCK
                waiting = select.poll()
                waiting.register(self._fd, select.POLLOUT)
                waiting.poll()

    def finish(self) -> None:
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            os.fsync(self._fd)


class _Replacement:
    """Written beside the file, and put in its place when all is there."""

    def __init__(self, place: Place) -> None:
        kept = place.status
        if kept is not None and _is_planted(place.path, kept):
            kept = None  # put there to be the owner of what we write: the new one is ours alone
        self._path, self._kept = place.path, kept
        self._new = NewFile(os.path.dirname(place.path), 0o666 if kept is None else 0o600)

    def __enter__(self) -> _Replacement:
        return self

    def __exit__(self, *error: object) -> None:
        self._new.__exit__(*error)

    def write(self, data: bytes) -> None:
        self._new.write(data)

    def finish(self) -> None:
        kept, new = self._kept, self._new
        if kept is not None:
            if _NOBODY not in (kept.st_uid, kept.st_gid):
                try:
                    os.fchown(new.fd, kept.st_uid, kept.st_gid)
                except OSError:
                    pass  # another user's: then it is ours now
            os.fchmod(new.fd, kept.st_mode & 0o777)
        new.finish()
        try:
            os.rename(new.name, self._path)
        except OSError as e:
            # A file that is mounted (a container's -v file:file), or another user's in a sticky folder.
            if kept is None or e.errno not in (errno.EBUSY, errno.EPERM):
                raise
            with _Through(Place(self._path, kept)) as through, open(new.name, "rb") as written:
                while data := written.read(_PIECE):
                    through.write(data)
                through.finish()


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        if path == STDOUT:
            raise  # whoever read it is gone, and knows
        raise StoreError(f"can't write {path}: its reader is gone") from None
    except OSError as e:
        raise StoreError(f"can't write {path}: {e.strerror}") from e


@contextmanager
def _refusing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise UsageError(f"can't write {path}: {e.strerror}") from e

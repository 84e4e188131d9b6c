"""The bytes of one open file into another: shared on disk where the file system can, copied by the kernel, holes kept."""

from __future__ import annotations

import errno
import os

from builder.state.cancel import checkpoint
from builder.state.disk import write_all

_IN_MEMORY = 1 << 17
_BUFFER = 1 << 20
_PIECE = 1 << 26  # the kernel does not look at the token: 64 MiB take a tenth of a second
_NO_KERNEL_COPY = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EIO, errno.EBADF)
_NO_REFLINK = (*_NO_KERNEL_COPY, errno.ENOTTY)

# What this process has learnt of the kernel and its disks: asked once, and the same for all.
_reflinks = True


def clone(source: int, target: int, st: os.stat_result) -> None:
    """``copy_bytes`` into an empty file, in one call where the two share a file system with reflinks."""
    from runtime.linux.syscalls import reflink

    global _reflinks
    if _reflinks:
        try:
            reflink(source, target)
            return
        except OSError as e:
            if e.errno not in _NO_REFLINK:
                raise
            _reflinks = e.errno == errno.EXDEV  # another pair of file systems may be able to
    copy_bytes(source, target, st)


def copy_bytes(source: int, target: int, st: os.stat_result) -> int:
    """Copy a file of the size and blocks of ``st``; holes stay holes. Gives the size of what was copied.

    copy_file_range shares extents where the file system can (btrfs, xfs).
    """
    size = st.st_size
    if st.st_blocks * 512 < size and (copied := _copy_sparse(source, target, size)) is not None:
        return copied
    if size <= _IN_MEMORY:
        data = os.read(source, size + 1)
        if len(data) == size or not data:
            write_all(target, data)
            return len(data)
        os.lseek(source, 0, os.SEEK_SET)  # a short read: the long way
    return _copy_range(source, target, 0, size)


def _copy_sparse(source: int, target: int, size: int) -> int | None:
    """None where the file system does not tell of holes."""
    at = 0
    try:
        while at < size:
            try:
                start = os.lseek(source, at, os.SEEK_DATA)
            except OSError as e:
                if e.errno == errno.ENXIO:
                    break  # nothing but a hole from here on
                raise
            end = os.lseek(source, start, os.SEEK_HOLE)
            _copy_range(source, target, start, end - start)
            at = end
    except OSError as e:
        if e.errno in (errno.EINVAL, errno.EOPNOTSUPP) and at == 0:
            os.lseek(source, 0, os.SEEK_SET)
            return None
        raise
    length = os.stat(source).st_size
    os.ftruncate(target, length)
    return length


def _copy_range(source: int, target: int, start: int, count: int) -> int:
    """Copy ``count`` bytes from ``start`` to the same place, or up to the end; gives their number."""
    done = 0
    while done < count:
        checkpoint()
        try:
            n = os.copy_file_range(source, target, min(count - done, _PIECE), start + done, start + done)
        except OSError as e:
            if done or e.errno not in _NO_KERNEL_COPY:
                raise
            return _send(source, target, start, count)
        if n == 0:
            # Files of /proc and some of FUSE copy nothing so, though they have content.
            return done + _send(source, target, start + done, count - done)
        done += n
    return done


def _send(source: int, target: int, start: int, count: int) -> int:
    os.lseek(target, start, os.SEEK_SET)
    done = 0
    while done < count:
        checkpoint()
        try:
            n = os.sendfile(target, source, start + done, min(count - done, _PIECE))
        except OSError as e:
            if done or e.errno not in _NO_KERNEL_COPY:
                raise
            return _read_and_write(source, target, start, count)
        if n == 0:
            break
        done += n
    return done


def _read_and_write(source: int, target: int, start: int, count: int) -> int:
    os.lseek(source, start, os.SEEK_SET)
    done = 0
    while done < count and (data := os.read(source, min(count - done, _BUFFER))):
        checkpoint()
        write_all(target, data)
        done += len(data)
    return done

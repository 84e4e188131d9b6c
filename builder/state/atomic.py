"""Files that appear whole or not at all: written under another name beside their own, then renamed.

For files whose name is ours to give: in the state root, in a folder of a known format. What a user typed as a path may be a device,
a pipe or a link, which a rename would destroy: ``builder.state.userfile`` writes those.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Write = Callable[[bytes], object]

_HOLE = 4096


@contextmanager
def replacing(path: str, *, sync: bool = True, scratch: str = "") -> Iterator[Write]:
    """A ``write`` for the file that takes the place of ``path`` when the block ends without an error. OSError.

    ``sync`` False is for what can be made anew: a power cut may leave an empty file. ``scratch`` is a folder of the same file
    system that somebody sweeps, for the unfinished file that a killed process leaves; else it lies beside ``path``.
    """
    with NewFile(scratch or os.path.dirname(path)) as new:
        yield new.write
        new.finish(sync=sync)
        os.rename(new.name, path)


class NewFile:
    """A file of another name in ``folder``, for the caller to fill, finish and rename; without that it is gone after the ``with``
    block. OSError. Blocks of zeros become holes."""

    def __init__(self, folder: str, mode: int = 0o666) -> None:
        # Short, whatever the length of the own name: that may be as long as the file system takes.
        self.name = os.path.join(folder, f".pybuild-{os.urandom(6).hex()}.tmp")
        self.fd = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        self._file = os.fdopen(self.fd, "wb")

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # buffered bytes that the disk has no room for; ``finish`` told
        finally:
            try:
                os.unlink(self.name)
            except FileNotFoundError:
                pass

    def write(self, data: bytes) -> None:
        if len(data) >= _HOLE and not data.strip(b"\0"):
            self._file.seek(len(data), os.SEEK_CUR)
        else:
            self._file.write(data)

    def finish(self, *, sync: bool = True) -> None:
        """All bytes are in the file, with ``sync`` also on the disk."""
        self._file.flush()
        os.ftruncate(self.fd, self._file.tell())  # a hole at the end
        if sync:
            os.fsync(self.fd)

"""Where an output goes: a file that appears whole or not at all, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from builder.errors import StoreError, UsageError


@contextmanager
def output_file(dest: str, option: str) -> Iterator[Callable[[bytes], object]]:
    """A ``write`` for ``dest``; ``-`` or empty is standard output, which must not be a terminal.

    A file is written under a temp name beside it and renamed when the block ends without an error.
    """
    if dest in ("", "-"):
        if sys.stdout.isatty():
            raise UsageError(f"dest is required for {option} output: refusing to write an archive to a terminal")
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    dest = os.path.abspath(dest)
    if os.path.isdir(dest):
        raise UsageError(f"destination {dest} of the {option} output is a directory", hint="name a file, or use tar=false")
    temp = f"{dest}.{os.getpid()}.tmp"
    try:
        with open(temp, "wb") as f:
            yield f.write
            f.flush()
            os.fsync(f.fileno())
        os.rename(temp, dest)
    except OSError as e:
        raise StoreError(f"can't write {dest}: {e.strerror}") from e
    finally:
        if os.path.exists(temp):
            os.unlink(temp)

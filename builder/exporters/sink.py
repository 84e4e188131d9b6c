"""Where an archive goes: the file that ``dest`` names, or standard output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import UsageError
from builder.state.atomic import Write
from builder.state.userfile import STDOUT, find_place, user_file


def check_file(dest: str) -> None:
    """Refuse a ``dest`` that no archive can be written to: a folder, a socket. UsageError."""
    find_place(dest or STDOUT)


def check_folder(dest: str, option: str) -> None:
    """Refuse a ``dest`` that is no folder, nor can become one. A link to a folder is one. UsageError."""
    if not dest:
        raise UsageError(f"dest is required for {option} output")
    if dest == STDOUT:
        raise UsageError(f"dest cannot be stdout for {option} output")
    try:
        if not os.path.isdir(dest) and os.path.lexists(dest):
            os.stat(dest)  # tells of a link in a circle, or one that leads nowhere
            raise UsageError(f"destination directory {dest} is a file")
    except OSError as e:
        raise UsageError(f"invalid destination directory {dest}: {e.strerror}") from e


def can_begin_anew(dest: str) -> bool:
    """Nothing of an archive that breaks off is seen: ``dest`` is replaced whole."""
    return find_place(dest or STDOUT).is_file


@contextmanager
def output_file(dest: str) -> Iterator[Write]:
    """A ``write`` for ``dest``; ``-`` or empty is standard output. Folders above are made, as by buildx. UsageError as
    ``check_file``; StoreError if it can't be written."""
    check_file(dest)
    with user_file(dest or STDOUT, parents=True) as write:
        yield write

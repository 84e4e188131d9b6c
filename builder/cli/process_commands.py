"""``pybuild unshare`` and ``reset``: a rootless state folder's files belong to ids that only its namespace knows."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from builder import UsageError, default_root, enter_namespaces, reset_root

_HELP = {"help_option_names": ["-h", "--help"]}


@click.command("unshare", context_settings={**_HELP, "ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND [ARG...]]")
def unshare(command: tuple[str, ...]) -> NoReturn:
    """Run a command (default: a shell) in the namespaces that builds are done in.

    There the files of a state folder have the owners that an image has, and can be looked at, copied and removed.
    """
    words = command or (os.environ.get("SHELL") or "/bin/sh",)
    enter_namespaces()
    sys.stdout.flush()
    try:
        os.execvp(words[0], words)
    except OSError as e:
        raise UsageError(f"{words[0]}: {e.strerror}") from e


@click.command("reset", context_settings=_HELP)
@click.option("--root", default="", metavar="DIR", help="State folder (default: PYBUILD_ROOT).")
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
def reset(root: str, force: bool) -> int:
    """Remove the state folder: all images, caches and records of builds."""
    where = root or default_root()
    if not force:
        if not sys.stdin.isatty():
            raise UsageError(f"this would remove {where} with all images and caches", hint="say --force where nobody can be asked")
        if not click.confirm(f"WARNING! This will remove {where} with all images and caches. Continue?"):
            return 1
    left = reset_root(where)
    print(f"removed {where}" if not left else f"emptied {where}; left, since it is not ours: {', '.join(left)}")
    return 0

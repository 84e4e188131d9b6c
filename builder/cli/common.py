"""What commands share: the options that name the state root, and what opens it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from builder import Root


def state_options(f: Any) -> Any:
    """--root, --config, --runtime, --debug."""
    f = click.option("-D", "--debug", is_flag=True, help="Show a traceback with an error.", expose_value=False)(f)
    f = click.option("--runtime", default=None, metavar="NAME", help="native (default), runc, crun, bwrap, unprivileged.")(f)
    f = click.option("--config", default="", metavar="FILE", help="Configuration (default: PYBUILD_CONFIG).")(f)
    return click.option("--root", default="", metavar="DIR", help="State folder (default: PYBUILD_ROOT).")(f)


def open_root(flags: dict[str, Any], *, repair: bool = True, to_prune: bool = False) -> Root:
    """The state folder that the flags name. To be called before any thread starts: it enters a mount namespace."""
    from builder import Root

    where, config = flags["root"] or None, flags["config"] or None
    root = Root.open(where, config=config, runtime=flags["runtime"], repair=repair, to_prune=to_prune, in_process=True)
    if ignored := root.ignored_settings:
        sys.stderr.write(f"[Warning] the configuration's keys of a daemon mean nothing here: {', '.join(ignored)}\n")
    return root

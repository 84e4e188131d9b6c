"""What commands share: the options that name the state root, and what opens it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from builder.build.root import Root


def state_options(f: Any) -> Any:
    """--root, --config, --runtime, --debug."""
    f = click.option("-D", "--debug", is_flag=True, help="Show a traceback with an error.", expose_value=False)(f)
    f = click.option("--runtime", default=None, metavar="NAME", help="Sandbox: native (default), runc, crun, bwrap.")(f)
    f = click.option("--config", default="", metavar="FILE", help="Configuration (default: PYBUILD_CONFIG).")(f)
    return click.option("--root", default="", metavar="DIR", help="State folder (default: PYBUILD_ROOT).")(f)


def open_root(flags: dict[str, Any], *, repair: bool = True) -> Root:
    """The state folder that the flags name. To be called before any thread starts: it enters a mount namespace."""
    from builder.build.root import Root

    root = Root.open(flags["root"] or None, config=flags["config"] or None, runtime=flags["runtime"], repair=repair)
    if ignored := root.worker.config.ignored:
        sys.stderr.write(f"[Warning] the configuration's keys of a daemon mean nothing here: {', '.join(ignored)}\n")
    return root

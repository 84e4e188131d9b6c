"""What commands share: the options that name the state root, and the worker that opens it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from builder.worker import Worker


def state_options(f: Any) -> Any:
    """--root, --config, --runtime, --debug."""
    f = click.option("-D", "--debug", is_flag=True, help="Show a traceback with an error.", expose_value=False)(f)
    f = click.option("--runtime", default=None, metavar="NAME", help="Sandbox: runc (default), crun, bwrap.")(f)
    f = click.option("--config", default="", metavar="FILE", help="Configuration (default: PYBUILD_CONFIG).")(f)
    return click.option("--root", default="", metavar="DIR", help="State folder (default: PYBUILD_ROOT).")(f)


def open_root(root: str, config: str, runtime: str | None = None) -> Worker:
    """The worker on the root that the flags name. To be called before any thread starts: it enters a mount namespace."""
    from builder.config import Config
    from builder.sources.providers import connect
    from builder.worker import open_worker

    worker = open_worker(os.path.abspath(root) if root else None, Config.load(config or None), runtime)
    connect(worker)
    return worker


def forget_pruned(worker: Worker) -> None:
    """After records were removed: the keys that led to them go too, and old records of steps."""
    from builder.errors import StoreError
    from builder.solver.keystore import SqliteKeyStore, release_unreferenced
    from builder.solver.steplog import trim

    try:
        release_unreferenced(SqliteKeyStore(worker.database), worker.cache.records.ids)
        trim(worker.database)
    except StoreError:
        pass  # a disk that is still full: the next time does it; keys that lead nowhere do no harm until then

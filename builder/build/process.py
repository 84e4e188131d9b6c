"""For a program that is nothing but a builder, as the command line is: what it does to its own process."""

from __future__ import annotations

import os

from builder.errors import PybuildError


def enter_namespaces() -> None:
    """Go where builds are done: a mount namespace of its own, and a user namespace where this is not root. There is no way back.

    PybuildError with a hint where the machine allows neither, or the process has threads.
    """
    from runtime.errors import RuntimeFault
    from runtime.linux import namespaces

    try:
        entered = namespaces.enter()
    except RuntimeFault as fault:
        raise PybuildError(str(fault), hint=fault.hint) from fault
    if entered.kind == "none":
        raise PybuildError("; ".join(entered.reasons), hint=entered.hint)


def reset_root(path: str | None = None) -> list[str]:
    """Remove the state folder ``path`` (None: the default one) and all that we keep in it; the names of what else is in it.

    NotFoundError where there is none. StoreError: it is no state folder, or it is in use.
    """
    from builder.state.layout import Layout, default_root
    from builder.state.reset import reset
    from runtime.linux import namespaces

    root = os.path.abspath(path) if path else default_root()
    namespaces.enter()  # where none can be had, no file belongs to anybody else either
    return reset(Layout(root))

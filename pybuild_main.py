"""The ``pybuild`` command; also ``python -m pybuild_main``.

PYTHONPATH, and with ``python -m`` the working folder, go before the place where pybuild is installed. A project that is built may
have packages of its own there that are called ``builder``, ``frontend`` or ``runtime``. So the command begins in this module, whose
name nobody else has, and takes those three from the folder that it lies in itself.
"""

from __future__ import annotations

import os
import sys

HOME = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """Run the command of ``sys.argv``; the exit code."""
    own_packages()
    from builder.cli.main import main as run

    return run()


def own_packages() -> None:
    """Import ``builder``, ``frontend`` and ``runtime`` from HOME; whatever is imported below them comes from there too.

    HOME stays on the path no longer than that: it may be a site-packages folder, which has to stand behind the standard library.
    """
    sys.path.insert(0, HOME)
    try:
        import builder  # noqa: F401
        import frontend  # noqa: F401
        import runtime  # noqa: F401
    finally:
        sys.path.remove(HOME)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder, or HOME where this file is run by its path
    sys.exit(main())

"""``pybuild doctor``: what works on this machine."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from builder.cli.common import open_root, state_options
from builder.values import asdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder import Finding


@click.command("doctor", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="A JSON array of name, state, found, cost, mend.")
@state_options
def doctor(as_json: bool, **flags: Any) -> int:
    """Say what builds can have on this machine, what is missing, and how that is mended.

    The exit code is 1 where RUN can't be executed.
    """
    uid = os.getuid()  # before a namespace is entered, in which we are somebody else
    with open_root(flags) as root:
        found = root.diagnose(uid)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        sys.stdout.write(_text(found))
    runs = any(one.name.startswith("runtime ") and one.state == "ok" for one in found)
    return 0 if runs else 1


def _text(found: Sequence[Finding]) -> str:
    width = max(len(one.name) for one in found)
    lines = []
    for one in found:
        lines.append(f"{one.state:<8} {one.name:<{width}}  {one.found}")
        indent = " " * (8 + 1 + width + 2)
        if one.cost:
            lines.append(f"{indent}so {one.cost}")
        if one.mend:
            lines.append(f"{indent}mend: {one.mend}")
    return "".join(line + "\n" for line in lines)

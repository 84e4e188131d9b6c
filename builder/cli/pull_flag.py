"""``--pull``: buildx' boolean, and how fresh an answer of a registry has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from builder.cli.goflags import Switch
from builder.text.strconv import parse_bool

if TYPE_CHECKING:
    from builder.sources.pull import PullPolicy


def pull_option(f: Any) -> Any:
    """The decorator."""
    text = "Ask the registry again what tags mean; WHEN is missing, always, newer, or an age: 12h, 7d."
    return click.option("--pull", cls=Switch, type=pull_policy, metavar="[=WHEN]", help=text)(f)


def pull_policy(value: str | bool | PullPolicy) -> bool | PullPolicy:
    """The flag's value; alone it is true. click.BadParameter."""
    if not isinstance(value, str):
        return value
    if value in ("always", "missing"):
        return value == "always"
    try:
        return parse_bool(value)
    except ValueError:
        pass
    from builder.sources.pull import parse_pull

    try:
        return parse_pull(value)
    except ValueError as e:
        raise click.BadParameter(str(e)) from None

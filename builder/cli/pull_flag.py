"""``--pull``: buildx' boolean, and how fresh an answer of a registry has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from builder.cli.goflags import Switch

if TYPE_CHECKING:
    from builder import PullPolicy


def pull_option(f: Any) -> Any:
    """The decorator."""
    text = "Ask the registry again what tags mean; WHEN is missing, always, newer, or an age: 12h, 7d."
    return click.option("--pull", cls=Switch, type=pull_policy, metavar="[=WHEN]", help=text)(f)


def pull_policy(value: str | bool | PullPolicy) -> bool | PullPolicy:
    """The flag's value; alone it is true. click.BadParameter."""
    if not isinstance(value, str):
        return value
    from builder import UsageError
    from builder import flags as words

    try:
        return words.parse_pull(value)
    except UsageError as e:
        raise click.BadParameter(str(e)) from None

"""Command lines as Go's pflag reads them, which is what scripts for docker are written for.

Click has no flag that may come with a value and without (``--pull``, ``--pull=false``), knows no ``-t=name``, and no ``-q=true``.
So ``FlagCommand`` puts the arguments into a form that click does read: long names, every value behind an equals sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from builder import UsageError
from builder.text.strconv import parse_bool


def _boolean(value: str | bool) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return parse_bool(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither true nor false") from None


class Switch(click.Option):
    """A boolean flag: alone it is true, ``--flag=VALUE`` says which, the last of several counts. It needs a ``FlagCommand``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"type": _boolean, "default": False, "metavar": "", **kwargs})

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0].rstrip(), record[1])


def switch(*names: str, help: str = "", hidden: bool = False) -> Any:
    """The decorator for a ``Switch``."""
    return click.option(*names, cls=Switch, help=help, hidden=hidden)


class FlagCommand(click.Command):
    """A command whose arguments are read as pflag reads them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        return super().parse_args(ctx, list(spelled_out(args, options)))


def spelled_out(args: Sequence[str], options: Sequence[click.Option]) -> Iterator[str]:
    """``args`` with every known flag as ``--name=value`` or ``--name``. What is not known is left for click to complain of."""
    known = {name: option for option in options for name in option.opts}
    rest = list(reversed(args))
    while rest:
        arg = rest.pop()
        if arg == "--":
            yield arg
            yield from reversed(rest)
            return
        if arg.startswith("--"):
            yield _long(arg, known, rest)
        elif arg.startswith("-") and len(arg) > 1:
            yield from _short(arg[1:], known, rest)
        else:
            yield arg


def _long(arg: str, known: dict[str, click.Option], rest: list[str]) -> str:
    name, equals, value = arg.partition("=")
    option = known.get(name)
    if option is None or (equals and not option.is_flag):
        return arg
    if equals:
        raise UsageError(f"{name} takes no value, not even {value!r}")
    return _with_value(name, option, rest)


def _with_value(name: str, option: click.Option, rest: list[str]) -> str:
    if isinstance(option, Switch):
        return f"{name}=true"
    return name if option.is_flag or not rest else f"{name}={rest.pop()}"


def _short(letters: str, known: dict[str, click.Option], rest: list[str]) -> Iterator[str]:
    """``-t``, ``-tname``, ``-t=name``, ``-qt name``."""
    while letters:
        option = known.get("-" + letters[0])
        if option is None:
            yield "-" + letters
            return
        name = next((n for n in option.opts if n.startswith("--")), "-" + letters[0])
        if len(letters) > 2 and letters[1] == "=" and not option.is_flag:
            yield f"{name}={letters[2:]}"
            return
        if len(letters) > 1 and not option.is_flag and not isinstance(option, Switch):
            yield f"{name}={letters[1:]}"
            return
        yield _with_value(name, option, rest)
        letters = letters[1:]

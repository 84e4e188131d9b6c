"""Arguments as Go's pflag reads them."""

from __future__ import annotations

from typing import Any

import click
import pytest

from builder.cli.goflags import FlagCommand, switch
from builder.errors import UsageError


@click.command("x", cls=FlagCommand)
@click.option("-t", "--tag", multiple=True)
@click.option("-f", "--file", default="")
@switch("--pull", help="Pull.")
@switch("-q", "--quiet")
@click.option("-D", "--debug", is_flag=True)
@click.argument("context")
def command(**values: Any) -> dict[str, Any]:
    return values


def parsed(*args: str) -> dict[str, Any]:
    """What differs from the defaults, and the context unless it is a dot."""
    values: dict[str, Any] = command.main([*args, "."] if "." not in args else list(args), standalone_mode=False)
    assert values.pop("context") == "."
    return {k: v for k, v in values.items() if v not in ((), "", False)}


@pytest.mark.parametrize(
    ("args", "values"),
    [
        (["--pull"], {"pull": True}),
        (["--pull", "."], {"pull": True}),
        (["--pull=true", "-q=1"], {"pull": True, "quiet": True}),
        (["--pull", "--pull=false"], {}),
        (["--pull=F", "-q=0"], {}),
        (["--pull=false", "--pull"], {"pull": True}),
        (["-t=a", "-tb", "-t", "c", "--tag", "d", "--tag=e"], {"tag": ("a", "b", "c", "d", "e")}),
        (["-qt", "a"], {"quiet": True, "tag": ("a",)}),
        (["-qDt=a"], {"quiet": True, "debug": True, "tag": ("a",)}),
        (["-q", ".", "-D"], {"quiet": True, "debug": True}),
        (["-f", "-"], {"file": "-"}),
        (["--file", "-q"], {"file": "-q"}),
        (["--tag", "--pull", "--", "."], {"tag": ("--pull",)}),
        (["--file=a=b"], {"file": "a=b"}),
        (["--file="], {}),
    ],
)
def test_flags_are_read_as_pflag_reads_them(args: list[str], values: dict[str, Any]) -> None:
    assert parsed(*args) == values


@pytest.mark.parametrize(
    ("args", "cause"),
    [
        (["--pull=maybe"], "'maybe' is neither true nor false"),
        (["--pull="], "'' is neither true nor false"),
        (["-q=x"], "'x' is neither true nor false"),
        (["--pul"], "No such option"),
        (["-qx"], "No such option"),
        (["--tag"], "requires an argument"),
        (["-t"], "requires an argument"),
        (["a", "b"], "unexpected extra argument"),
    ],
)
def test_what_is_wrong_is_named(args: list[str], cause: str) -> None:
    with pytest.raises(click.UsageError, match=cause):
        command.main([".", *args] if args[0].startswith("-") else args, standalone_mode=False)


def test_a_flag_that_is_no_switch_takes_no_value() -> None:
    with pytest.raises(UsageError, match="--debug takes no value"):
        parsed("--debug=true")


def test_the_help_shows_a_switch_like_any_flag(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--help"], standalone_mode=False)
    assert "\n  --pull           Pull.\n" in capsys.readouterr().out

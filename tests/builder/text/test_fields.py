"""Comma lists of key=value: one reading for every flag that has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.build.flags import parse_cache_from, parse_cache_to, parse_secret
from builder.build.request import SecretSpec
from builder.errors import UsageError
from builder.exporters.types import OutputSpec
from builder.text.fields import Values, flag_fields, key_values
from builder.text.strconv import parse_bool

FLAGS: dict[str, tuple[Callable[[str], object], str]] = {
    "output": (OutputSpec.parse, "type=oci,dest=x"),
    "cache-from": (lambda t: parse_cache_from([t]), "type=local,src=x"),
    "cache-to": (lambda t: parse_cache_to([t], {}), "type=local,dest=x"),
    "secret": (parse_secret, "id=x,src=y"),
}
every_flag = pytest.mark.parametrize("flag", FLAGS)


def test_a_field_in_quotes_may_have_commas_and_quotes() -> None:
    assert flag_fields('type=oci,"dest=a,""b"""', "output") == ["type=oci", 'dest=a,"b"']


def test_keys_have_no_case_and_the_last_of_one_wins() -> None:
    assert key_values(["Type=a", " dest=X=Y", "type=b"], "output") == {"type": "b", "dest": "X=Y"}


@every_flag
def test_keys_are_in_any_case_and_order(flag: str) -> None:
    parse, text = FLAGS[flag]
    swapped = ",".join(f.partition("=")[0].upper() + "=" + f.partition("=")[2] for f in reversed(text.split(",")))
    assert parse(swapped) == parse(text)


@every_flag
@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (",dest", "invalid value dest for --{}: expected key=value"),
        (',a"b=c', 'bare " in non-quoted field'),
        (',"a=b', 'extraneous or missing " in quoted-field'),
    ],
)
def test_every_flag_says_alike_what_is_wrong(flag: str, wrong: str, cause: str) -> None:
    parse, text = FLAGS[flag]
    with pytest.raises(UsageError) as failure:
        parse(text + wrong)
    assert cause.format(flag) in str(failure.value)
    assert f"--{flag}" in str(failure.value)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("t", True), ("TRUE", True), ("0", False), ("F", False)])
def test_booleans_are_gos(text: str, value: bool) -> None:
    assert parse_bool(text) is value
    assert Values("--x", {"k": text}).flag("k", not value) is value


@pytest.mark.parametrize("text", ["yes", "no", "tRUE", "2", " 1"])
def test_other_words_are_no_booleans(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_bool(text)
    with pytest.raises(UsageError, match=f"--x: non-bool value '{text}' specified for k"):
        Values("--x", {"k": text}).flag("k", True)


def test_a_key_without_value_is_true() -> None:
    assert Values("--x", {"k": ""}).flag("k", False)
    assert not Values("--x", {}).flag("k", False)


def test_keys_that_the_type_does_not_have_are_refused_with_those_that_it_has() -> None:
    with pytest.raises(UsageError, match="--x: unknown option 'c'") as failure:
        Values("--x", {"a": "", "c": ""}).refuse_unknown(frozenset({"b", "a"}))
    assert failure.value.hint == "options are a, b"


def test_an_empty_required_value_is_missing() -> None:
    with pytest.raises(UsageError, match="--x requires k"):
        Values("--x", {"k": ""}).required("k")


def test_a_secret_is_read_by_the_same_rules() -> None:
    assert parse_secret('ID=a,"src=x,y"') == SecretSpec("a", "x,y")

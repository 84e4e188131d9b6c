"""Which devices of RUN --device a build may have (BuildKit: solver/llbsolver/vertex.go, ValidateEntitlements)."""

from __future__ import annotations

import pytest

from builder.errors import UsageError
from builder.graph.ops import CDIDevice
from builder.ops.devices import granted, with_env
from runtime.cdi import AUTO_ALLOW_ANNOTATION, CLASS_ANNOTATION, Device, Registry

REGISTRY = Registry(
    {
        "v.com/c=a": Device("v.com/c=a", "/1", {CLASS_ANNOTATION: "gpu"}),
        "v.com/c=b": Device("v.com/c=b", "/1"),
        "w.com/c=auto": Device("w.com/c=auto", "/2", {AUTO_ALLOW_ANNOTATION: "true"}),
    }
)


def grant(*asked: CDIDevice, allow: set[str] | None = None, auto: tuple[str, ...] = ()) -> tuple[CDIDevice, ...]:
    return granted(asked, frozenset(allow or ()), REGISTRY, auto)


def test_all_are_allowed_and_stay_as_they_were_asked_for() -> None:
    asked = (CDIDevice("v.com/c"), CDIDevice("gpu", True), CDIDevice("x", True))
    assert grant(*asked, allow={"device"}) == asked


@pytest.mark.parametrize("allowed", ["v.com/c=b", "v.com/c=*"])
def test_one_is_allowed_by_name_or_by_what_finds_it(allowed: str) -> None:
    assert grant(CDIDevice("v.com/c=b", True), allow={f"device={allowed}"}) == (CDIDevice("v.com/c=b"),)


def test_what_is_not_allowed_is_named() -> None:
    with pytest.raises(UsageError, match=r"^device v.com/c=b is requested by the build but not allowed") as caught:
        grant(CDIDevice("v.com/c=b"), allow={"device=v.com/c"})
    assert caught.value.hint == "allow it with --allow device=v.com/c=b"
    with pytest.raises(UsageError, match=r"^devices v.com/c=a, v.com/c=b are requested"):
        grant(CDIDevice("v.com/c=*"))


def test_some_need_no_word() -> None:
    assert grant(CDIDevice("w.com/c")) == (CDIDevice("w.com/c=auto"),)
    assert grant(CDIDevice("v.com/c=b"), auto=("v.com/c=b",)) == grant(CDIDevice("v.com/c=b"), auto=("v.com/c",))


def test_an_alias_is_another_name_for_an_allowed_one() -> None:
    assert grant(CDIDevice("gpu0"), allow={"device=v.com/c=a,alias=gpu0"}) == (CDIDevice("v.com/c=a"),)


@pytest.mark.parametrize("allow", [set(), {"device"}])
def test_a_missing_one_is_an_error_or_nothing(allow: set[str]) -> None:
    with pytest.raises(UsageError, match=r'^required device "x.com/c=a" is not registered'):
        grant(CDIDevice("x.com/c=a"), allow=allow)
    assert [one for one in grant(CDIDevice("x.com/c=a", True), allow=allow) if not one.optional] == []


def test_variables_of_devices_go_before_those_of_the_image() -> None:
    assert with_env(["A=1", "B=2"], ["A=3", "C=4"]) == ["A=3", "B=2", "C=4"]

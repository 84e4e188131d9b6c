"""Findings are a function of facts: each lack has a cost and something that mends it."""

from __future__ import annotations

import pytest

from runtime.cgroups import Cgroups
from runtime.doctor import Account, Finding, Runtime, findings
from runtime.facts import Facts
from runtime.linux.idmaps import IdMaps, IdRange
from runtime.linux.namespaces import Entered
from runtime.values import replace

FACTS = Facts("x86_64", False, ((0, 1 << 32),), ((0, 1 << 32),), True, (), Cgroups("v2", ("/sys/fs/cgroup",)), True, 0)
ROOT = Account(0, "root", (0, 0))
ALICE = Account(1000, "alice", (0, 0))
SINGLE = IdMaps((IdRange(0, 1000, 1),), (IdRange(0, 1000, 1),))
WORKS = [Runtime("native"), Runtime("runc", "runc not found", "apt install runc")]


def named(found: list[Finding], name: str) -> Finding:
    return next(one for one in found if one.name == name)


def test_a_root_with_everything_lacks_nothing() -> None:
    found = findings(Entered("mounts"), FACTS, ROOT, WORKS)
    assert named(found, "namespaces").state == "ok"
    assert named(found, "runtime native").found == "works, and is taken"
    assert named(found, "runtime runc") == Finding("runtime runc", "missing", "runc not found", "", "apt install runc")
    assert "ids" not in [one.name for one in found]


def test_no_namespace_says_why_and_what_it_costs() -> None:
    entered = Entered("none", reasons=("cannot make a user namespace: Operation not permitted",), hint="sysctl x=1")
    found = named(findings(entered, FACTS, ALICE, []), "namespaces")
    assert (found.state, found.mend) == ("missing", "sysctl x=1")
    assert "Operation not permitted" in found.found
    assert "RUN" in found.cost


@pytest.mark.parametrize(("ranges", "part"), [((0, 0), "usermod --add-subuids"), ((65536, 0), "usermod --add-subuids")])
def test_an_account_without_ranges_is_told_the_command_that_adds_them(ranges: tuple[int, int], part: str) -> None:
    account = replace(ALICE, ranges=ranges)
    found = named(findings(Entered("user", SINGLE), replace(FACTS, user_namespace=True), account, WORKS), "ids")
    assert found.state == "limited"
    assert part in found.mend
    assert found.mend.endswith("alice")


def test_many_ids_are_counted_by_the_smaller_map() -> None:
    maps = IdMaps((IdRange(0, 1000, 1), IdRange(1, 100000, 65536)), (IdRange(0, 1000, 1), IdRange(1, 100000, 65535)))
    found = named(findings(Entered("user", maps), replace(FACTS, user_namespace=True), ALICE, WORKS), "ids")
    assert (found.state, found.found) == ("ok", "65536 user and group ids")


def test_what_a_missing_cgroup_costs_depends_on_where_we_are() -> None:
    none = replace(FACTS, cgroups=Cgroups("none", reason="/sys/fs/cgroup can't be written"))
    host = named(findings(Entered("mounts"), none, ROOT, WORKS), "cgroups")
    assert "can't be written" in host.found
    assert "device nodes" in host.cost
    inside = named(findings(Entered("user", SINGLE), replace(none, user_namespace=True), ALICE, WORKS), "cgroups")
    assert "a user namespace" in inside.found
    assert "device nodes" not in inside.cost


def test_without_a_runtime_run_is_the_cost() -> None:
    refused = [Runtime("native", "native does not work here: no", "use --runtime runc")]
    found = named(findings(Entered("mounts"), FACTS, ROOT, refused), "runtime native")
    assert found.cost == "RUN can't be executed"

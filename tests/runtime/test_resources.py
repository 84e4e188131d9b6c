"""Limits of CPUs and memory: the words of the OCI specification, the files of cgroups, and steps that feel them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import cgroups, resources
from runtime.errors import RuntimeFault
from runtime.spec import Resources, Sandbox
from tests.runtime.conftest import Runner

ALL = Resources(
    memory=64 << 20, memory_swap=96 << 20, cpu_shares=512, cpu_period=50_000, cpu_quota=25_000, cpuset_cpus="0", cpuset_mems="0"
)
V1 = cgroups.Cgroups("v1", ("/c/cpu,cpuacct", "/c/cpuset", "/c/devices", "/c/memory", "/c/pids"))


def test_the_specification_has_only_what_is_limited() -> None:
    assert resources.as_oci(Resources()) == {}
    assert resources.as_oci(Resources(memory=1)) == {"memory": {"limit": 1}}
    cpu = {"shares": 512, "quota": 25_000, "period": 50_000, "cpus": "0", "mems": "0"}
    assert resources.as_oci(ALL) == {"memory": {"limit": 64 << 20, "swap": 96 << 20}, "cpu": cpu}


def test_the_files_of_v1_with_the_memory_before_the_swap_and_the_period_before_the_quota() -> None:
    assert resources.writes(V1, ALL) == (
        ("/c/memory", "memory.limit_in_bytes", "67108864"),
        ("/c/memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("/c/cpu,cpuacct", "cpu.shares", "512"),
        ("/c/cpu,cpuacct", "cpu.cfs_period_us", "50000"),
        ("/c/cpu,cpuacct", "cpu.cfs_quota_us", "25000"),
        ("/c/cpuset", "cpuset.cpus", "0"),
        ("/c/cpuset", "cpuset.mems", "0"),
    )


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        (
            ALL,
            {
                "memory.max": "67108864", "memory.swap.max": "33554432", "cpu.weight": "20", "cpu.max": "25000 50000",
                "cpuset.cpus": "0", "cpuset.mems": "0",
            },
        ),
        (Resources(memory=1, memory_swap=-1), {"memory.max": "1", "memory.swap.max": "max"}),
        (Resources(cpu_quota=7), {"cpu.max": "7 100000"}),
        (Resources(cpu_period=7), {"cpu.max": "max 7"}),
        (Resources(cpu_shares=1), {"cpu.weight": "1"}),
        (Resources(cpu_shares=1 << 40), {"cpu.weight": "10000"}),
    ],
)  # fmt: skip
def test_the_files_of_v2(limits: Resources, files: dict[str, str]) -> None:
    assert resources.writes(cgroups.Cgroups("v2", ("/c",)), limits) == tuple(("/c", name, value) for name, value in files.items())


def test_only_the_hierarchies_that_limit_are_joined_besides_the_usual() -> None:
    usual = ("/c/devices", "/c/memory")
    assert cgroups.wanted(V1, all_of_them=False) == usual
    needed = resources.controllers(Resources(cpu_quota=1000))
    assert cgroups.wanted(V1, all_of_them=False, controllers=needed) == ("/c/cpu,cpuacct", *usual)


def test_a_group_of_v2_is_handed_the_controllers_on_every_level(tmp_path: Path) -> None:
    for level in ("", "/pybuild", "/pybuild/1-1"):
        os.makedirs(f"{tmp_path}{level}", exist_ok=True)
        Path(f"{tmp_path}{level}/cgroup.subtree_control").write_text("")
    cgroups.make(f"{tmp_path}", "/pybuild/1-1/run", {"memory", "cpu"})
    for level in ("", "/pybuild", "/pybuild/1-1"):
        assert Path(f"{tmp_path}{level}/cgroup.subtree_control").read_text() == "+cpu +memory"


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (cgroups.Cgroups("none", reason="/sys/fs/cgroup can't be written"), "no cgroup can be made: /sys/fs/cgroup can't"),
        (cgroups.Cgroups("v1", ("/c/memory",)), "--resource cpu-shares has no effect here: no cpu cgroup is mounted"),
    ],
)
def test_a_limit_that_can_not_be_had_is_named(found: cgroups.Cgroups, cause: str) -> None:
    assert cause in resources.refusal(found, Resources(cpu_shares=2), "/p")


def test_a_control_that_the_kernel_lacks_is_named_and_the_group_is_gone(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    found = cgroups.Cgroups("v1", (f"{tmp_path}/memory",))
    cause = "--resource memory has no effect here: the kernel keeps no memory.limit_in_bytes"
    assert resources.refusal(found, Resources(memory=8 << 20), "/p") == cause
    assert os.listdir(tmp_path / "memory" / "p") == []


@pytest.mark.integration
class TestSteps:
    def test_a_step_is_in_a_group_with_its_limits(self, limited: Runner) -> None:
        kind = cgroups.probe().kind
        if kind == "v1":
            files = "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_period_us "
            files += "cpu/cpu.cfs_quota_us cpuset/cpuset.cpus cpuset/cpuset.mems"
            told = "67108864 100663296 512 50000 25000 0 0"
        else:
            files = "memory.max memory.swap.max cpu.max cpuset.cpus cpuset.mems"
            told = "67108864 33554432 25000 50000 0 0"
        done = limited(f"cd /sys/fs/cgroup && cat {files}", resources=ALL)
        assert done.out.split() == told.split()

    def test_more_memory_than_the_limit_is_a_kill_and_told_apart(self, limited: Runner) -> None:
        hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1"
        assert limited(hungry, resources=Resources(memory=256 << 20)).status.oom is False
        done = limited(f"{hungry}; exit 9", resources=Resources(memory=16 << 20, memory_swap=16 << 20))
        # crun removes the group in which v1 counts the kills before anybody can read it.
        assert done.status.oom is (limited.name != "crun" or cgroups.probe().kind == "v2")
        assert "Killed" in done.err

    @pytest.mark.parametrize("limits", [{"cpuset_cpus": "8000"}, {"cpuset_mems": "900"}])
    def test_what_the_machine_has_not_is_refused_by_name(self, limited: Runner, limits: dict[str, str]) -> None:
        name, value = next(iter(limits.items()))
        with pytest.raises(RuntimeFault, match=f"--resource {name.replace('_', '-')}={value} can't be had"):
            limited.executor.admit(Sandbox("/none", resources=Resources(**limits)))  # type: ignore[arg-type]

    def test_nothing_is_left_of_the_groups(self, limited: Runner) -> None:
        limited("true", resources=ALL)
        for folder in cgroups.probe().folders:
            if os.path.isdir(f"{folder}/pybuild"):
                assert not [name for name in os.listdir(f"{folder}/pybuild") if name.startswith(f"{os.getpid()}-")]


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_bubblewrap_refuses_by_name(rootfs: str) -> None:
    with pytest.raises(RuntimeFault, match="bwrap can't honour --resource cpu-quota"):
        Runner("bwrap", rootfs).executor.admit(Sandbox("/none", resources=Resources(cpu_quota=5000)))

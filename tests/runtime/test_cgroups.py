"""Hierarchies are recognised and figures read; plain folders stand in for the kernel's."""

from __future__ import annotations

import os

import pytest

from runtime import cgroups


def write(path: str, text: str = "") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def test_a_unified_tree_is_v2(tmp_path: object) -> None:
    write(f"{tmp_path}/cgroup.controllers")
    assert cgroups.probe(f"{tmp_path}") == cgroups.Cgroups("v2", (f"{tmp_path}",))


def test_folders_with_processes_are_v1_and_a_v2_tree_among_them_makes_it_hybrid(tmp_path: object) -> None:
    write(f"{tmp_path}/memory/cgroup.procs")
    write(f"{tmp_path}/unified/cgroup.controllers")
    found = cgroups.probe(f"{tmp_path}")
    assert (found.kind, found.hybrid) == ("v1", True)
    assert set(found.folders) == {f"{tmp_path}/memory", f"{tmp_path}/unified"}


def test_where_processes_can_be_counted(tmp_path: object) -> None:
    write(f"{tmp_path}/v2/cgroup.controllers", "cpu memory pids\n")
    assert cgroups.probe(f"{tmp_path}/v2").pids
    write(f"{tmp_path}/without/cgroup.controllers", "cpu memory\n")
    assert not cgroups.probe(f"{tmp_path}/without").pids
    write(f"{tmp_path}/v1/pids/cgroup.procs")
    assert cgroups.probe(f"{tmp_path}/v1").pids


def test_a_limit_that_nobody_asked_for_is_set_or_left(tmp_path: object) -> None:
    """Folders are no cgroups: what is written to is a file that lies there, or none."""
    folder, group = f"{tmp_path}/pids", "/pybuild/1-1/run"
    write(f"{folder}{group}/cgroup.procs")
    write(f"{folder}{group}/pids.max")
    for fd in cgroups.enclose(group, "v1", (folder,), deny=False, limits=((folder, "pids.max", "100"),)):
        os.close(fd)
    with open(f"{folder}{group}/pids.max") as file:
        assert file.read() == "100"
    os.unlink(f"{folder}{group}/pids.max")
    os.mkdir(f"{folder}{group}/pids.max")  # can't be written
    for fd in cgroups.enclose(group, "v1", (folder,), deny=False, limits=((folder, "pids.max", "100"),)):
        os.close(fd)
    with pytest.raises(NotADirectoryError):
        cgroups.enclose(group, "v1", (folder,), deny=False, limits=((folder, "cgroup.procs/x", "1"),))


def test_nothing_mounted_is_none(tmp_path: object) -> None:
    assert cgroups.probe(f"{tmp_path}/missing").kind == "none"
    assert cgroups.probe(f"{tmp_path}").kind == "none"


def test_figures_of_v2_are_read_from_the_outer_group(tmp_path: object) -> None:
    write(f"{tmp_path}/p/memory.peak", "4096\n")
    write(f"{tmp_path}/p/cpu.stat", "usage_usec 1500000\nuser_usec 1\n")
    write(f"{tmp_path}/p/memory.events", "low 0\noom 1\noom_kill 2\n")
    assert cgroups.usage("/p", "/p/run", "v2", f"{tmp_path}") == cgroups.Usage(4096, 1.5, True)


def test_figures_of_v1_are_spread_and_kills_are_counted_in_the_inner_group(tmp_path: object) -> None:
    write(f"{tmp_path}/memory/p/memory.max_usage_in_bytes", "8192\n")
    write(f"{tmp_path}/cpuacct/p/cpuacct.usage", "2500000000\n")
    write(f"{tmp_path}/memory/p/run/memory.oom_control", "oom_kill_disable 0\noom_kill 1\n")
    assert cgroups.usage("/p", "/p/run", "v1", f"{tmp_path}") == cgroups.Usage(8192, 2.5, True)
    assert cgroups.usage("/x", "/x/run", "v1", f"{tmp_path}") == cgroups.Usage()


def test_groups_of_dead_processes_are_swept_and_those_of_the_living_stay(tmp_path: object) -> None:
    for name in ("999999999-1/run", f"{os.getpid()}-1/run", "other"):
        os.makedirs(f"{tmp_path}/pybuild/{name}")
    cgroups.sweep("/pybuild", (f"{tmp_path}",))
    assert sorted(os.listdir(f"{tmp_path}/pybuild")) == [f"{os.getpid()}-1", "other"]

"""config.json is BuildKit's default specification."""

from __future__ import annotations

from typing import Any

from runtime import oci
from runtime.capabilities import DEFAULT, NAMES
from runtime.cgroups import Cgroups
from runtime.facts import Facts
from runtime.spec import BindMount, Process, Sandbox, TmpfsMount
from runtime.user import User
from runtime.values import replace

EVERYTHING = ((0, (1 << 32) - 1),)
FACTS = Facts("x86_64", False, EVERYTHING, EVERYTHING, True, NAMES, Cgroups("v1", ("/sys/fs/cgroup/memory",)), False, 2)
ROOTLESS = replace(FACTS, user_namespace=True, uids=((0, 1),), gids=((0, 1),), setgroups=False, cgroups=Cgroups("none"))


def config(
    sandbox: Sandbox = Sandbox("/r"),  # noqa: B008
    facts: Facts = FACTS,
    user: User = User(0, 0),  # noqa: B008
    cgroup: str = "/g",
    sysfs: str = "",
) -> Any:
    files = {"resolv_conf": "/s/resolv.conf", "hosts": "/s/hosts"}
    return oci.config(sandbox, Process(("x",)), user, facts, **files, cgroup=cgroup, sysfs=sysfs)


def destinations(document: Any) -> list[str]:
    return [mount["destination"] for mount in document["mounts"]]


def test_the_default_has_fourteen_capabilities_in_three_sets() -> None:
    sets = config()["process"]["capabilities"]
    assert sorted(sets) == ["bounding", "effective", "permitted"]
    assert all(sorted(value) == sorted(DEFAULT) for value in sets.values())
    assert len(DEFAULT) == 14


def test_the_default_namespaces_share_the_hosts_network() -> None:
    def kinds(document: Any) -> list[str]:
        return [entry["type"] for entry in document["linux"]["namespaces"]]

    assert kinds(config()) == ["pid", "ipc", "uts", "mount"]
    assert kinds(config(Sandbox("/r", network="none"))) == ["pid", "ipc", "uts", "mount", "network"]
    assert kinds(config(facts=replace(FACTS, cgroup_namespace=True)))[-1] == "cgroup"


def test_the_default_mounts_are_in_buildkits_order() -> None:
    assert destinations(config()) == [
        "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc/resolv.conf", "/etc/hosts", "/sys/fs/cgroup",
    ]  # fmt: skip


def test_privileges_may_be_gained_and_devices_are_denied() -> None:
    document = config()
    assert document["process"]["noNewPrivileges"] is False
    assert document["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert "/proc/kcore" in document["linux"]["maskedPaths"]
    assert "/proc/sys" in document["linux"]["readonlyPaths"]
    assert document["linux"]["seccomp"]["defaultErrnoRet"] == 1


def test_an_insecure_sandbox_has_everything() -> None:
    document = config(Sandbox("/r", security="insecure"))
    assert sorted(document["process"]["capabilities"]) == ["ambient", "bounding", "effective", "inheritable", "permitted"]
    assert document["process"]["capabilities"]["ambient"] == list(NAMES)
    assert document["linux"]["maskedPaths"] == document["linux"]["readonlyPaths"] == []
    assert "seccomp" not in document["linux"]
    assert {"path": "/dev/loop1", "type": "b", "major": 7, "minor": 1} in document["linux"]["devices"]
    assert [mount["options"][-1] for mount in document["mounts"] if mount["destination"] == "/sys"] == ["rw"]


def test_two_mounts_on_one_place_the_later_counts_in_the_first_ones_place() -> None:
    mounts = (BindMount("/a", "/one"), TmpfsMount("b", 4096), BindMount("a/", "/two", readonly=True))
    document = config(Sandbox("/r", mounts=mounts, shm_size=1 << 20))
    assert destinations(document)[-2:] == ["/a", "/b"]
    assert document["mounts"][-2] == {"destination": "/a", "type": "bind", "source": "/two", "options": ["rbind", "ro"]}
    assert document["mounts"][-1]["options"] == ["nosuid", "size=4096", "mode=1777"]
    assert document["mounts"][3]["options"] == ["nosuid", "size=1048576", "mode=1777"]


def test_ulimits_are_unsigned_and_minus_one_is_unlimited() -> None:
    limits = config(Sandbox("/r", ulimits=(("nofile", 10, -1),)))["process"]["rlimits"]
    assert limits == [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": (1 << 64) - 1}]


def test_the_primary_group_is_among_the_groups() -> None:
    assert config(user=User(5, 6, (7, 8)))["process"]["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7, 8]}
    assert config(user=User(5, 6, (7, 6)))["process"]["user"]["additionalGids"] == [7, 6]


def test_in_a_user_namespace_nothing_is_asked_for_that_it_can_not_give() -> None:
    document = config(facts=ROOTLESS, cgroup="")
    assert "additionalGids" not in document["process"]["user"]
    assert "cgroupsPath" not in document["linux"]
    assert "/sys/fs/cgroup" not in destinations(document)
    options = {mount["destination"]: mount["options"] for mount in document["mounts"]}
    assert "gid=5" not in options["/dev/pts"]
    assert {"rbind", "rro"} <= set(options["/sys"])


def test_without_a_cgroup_no_device_node_can_be_opened_where_the_step_could_make_one() -> None:
    """But for those that the sandbox gives: bound from the host, each a mount of its own."""
    mounts = (TmpfsMount("/t"), BindMount("/b", "/one"))
    document = config(Sandbox("/r", mounts=mounts, shm_size=1 << 20), cgroup="")
    given = [f"/dev/{name}" for name in oci.DEVICES]
    open_ = [m["destination"] for m in document["mounts"] if "nodev" not in m["options"]]
    assert open_ == [*given, "/dev/pts"]  # nothing can be made in a devpts
    assert config(cgroup="/g")["mounts"][1]["options"] == ["nosuid", "strictatime", "mode=755", "size=65536k"]


def test_the_sysfs_of_a_network_namespace_that_is_there_is_bound_and_no_other_made() -> None:
    document = config(Sandbox("/r", network="none"), ROOTLESS, cgroup="", sysfs="/s/sys")
    assert "network" not in [entry["type"] for entry in document["linux"]["namespaces"]]
    assert [m["source"] for m in document["mounts"] if m["destination"] == "/sys"] == ["/s/sys"]

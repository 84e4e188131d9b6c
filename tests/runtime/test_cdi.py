"""CDI: what is registered, by which names it is found, what it changes, and steps that have a device and no other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runtime import cdi, devices
from runtime.errors import RuntimeFault
from runtime.spec import BindMount, DeviceNode, Sandbox
from tests.runtime.conftest import Runner

FUSE = DeviceNode("/dev/fuse", "c", 10, 229, 0o600)


def specification(kind: str, entries: dict[str, Any], **more: Any) -> str:
    listed = [{"name": name, **entry} for name, entry in entries.items()]
    return json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": listed, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cdi").mkdir()
    return tmp_path / "cdi"


def edits(folder: Path, entry: dict[str, Any], **more: Any) -> cdi.Edits:
    (folder / "a.json").write_text(specification("v.com/c", {"d": {"containerEdits": entry}}, **more))
    registry = cdi.read((str(folder),))
    assert not registry.problems
    return registry.edits(("v.com/c=d",))


class TestRegistry:
    def test_names_kinds_wildcards_and_classes(self, folder: Path) -> None:
        (folder / "a.json").write_text(
            specification("v.com/c", {"b": {}, "a": {"annotations": {cdi.CLASS_ANNOTATION: "gpu"}}}, annotations={"k": "v"})
        )
        (folder / "b.json").write_text(specification("w.com/c", {"a": {}}, annotations={cdi.CLASS_ANNOTATION: "gpu"}))
        found = cdi.read((str(folder),))
        assert list(found.devices) == ["v.com/c=a", "v.com/c=b", "w.com/c=a"]
        assert found.find("v.com/c=b") == ("v.com/c=b",)
        assert found.find("v.com/c") == ("v.com/c=a",)
        assert found.find("v.com/c=*") == ("v.com/c=a", "v.com/c=b")
        assert found.find("gpu") == ("v.com/c=a", "w.com/c=a")
        assert found.find("v.com/c=x") == found.find("cpu") == found.find("") == ()

    def test_a_later_folder_goes_first_and_two_of_one_name_in_a_folder_are_nobodys(self, tmp_path: Path) -> None:
        for name, file in (("one", "a"), ("two", "a"), ("two", "b")):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{file}.json").write_text(specification("v.com/c", {"d": {}}))
        assert cdi.read((f"{tmp_path}/one",)).devices["v.com/c=d"].path == f"{tmp_path}/one/a.json"
        both = cdi.read((f"{tmp_path}/one", f"{tmp_path}/two"))
        assert both.devices == {}
        assert "two files have the device v.com/c=d" in both.hint
        (tmp_path / "two" / "b.json").unlink()
        assert cdi.read((f"{tmp_path}/one", f"{tmp_path}/two")).devices["v.com/c=d"].path == f"{tmp_path}/two/a.json"

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("{", "Expecting"),
            ("[]", "the document is no object"),
            ('{"kind": "v.com/c"}', "cdiVersion or kind"),
            (specification("c", {}), "cdiVersion or kind"),
            (specification("v.com/c", {"-": {}}), "invalid device name"),
            (specification("v.com/c", {"d": {"containerEdits": []}}) .replace("[]", "[1]"), "containerEdits is no object"),
            ("[" * 100_000, "recursion"),
        ],
    )  # fmt: skip
    def test_a_file_that_is_not_understood_is_passed_over_and_told(self, folder: Path, text: str, cause: str) -> None:
        (folder / "a.json").write_text(text)
        (folder / "good.json").write_text(specification("v.com/c", {"good": {}}))
        found = cdi.read((str(folder), f"{folder}/missing"))
        assert list(found.devices) == ["v.com/c=good"]
        assert f"{folder}/a.json: " in found.problems[0]
        assert cause in found.problems[0]

    def test_a_fifo_and_yaml_are_told_and_nothing_hangs(self, folder: Path) -> None:
        os.mkfifo(folder / "a.json")
        (folder / "b.yaml").write_text("kind: x")
        told = [one.rpartition(": ")[2] for one in cdi.read((str(folder),)).problems]
        assert told == ["no regular file", "YAML is not read, write it as JSON"]


class TestEdits:
    def test_all_that_can_be_edited_with_the_files_own_first(self, folder: Path) -> None:
        node = {"path": "/dev/made", "type": "c", "major": 1, "minor": 7, "fileMode": 0o640, "gid": 7, "permissions": "r"}
        entry = {
            "env": ["A=1"],
            "deviceNodes": [node],
            "mounts": [{"hostPath": str(folder), "containerPath": "/m", "options": ["ro", "nosuid", "bind"]}],
            "additionalGids": [0, 44],
        }
        found = edits(folder, entry, containerEdits={"env": ["ALL=1"]})
        assert found.env == ("ALL=1", "A=1")
        assert found.nodes == (DeviceNode("/dev/made", "c", 1, 7, 0o640, None, 7, "r"),)
        assert found.mounts == (BindMount("/m", str(folder), readonly=True, nosuid=True),)
        assert found.gids == (44,)

    def test_what_is_not_said_of_a_node_is_the_hosts(self, folder: Path) -> None:
        node = edits(folder, {"deviceNodes": [{"path": "/dev/x/full", "hostPath": "/dev/full"}]}).nodes[0]
        assert (node.path, node.kind, node.major, node.minor, node.access) == ("/dev/x/full", "c", 1, 7, "rwm")
        assert node.mode == os.stat("/dev/full").st_mode & 0o7777

    @pytest.mark.parametrize(
        ("entry", "cause"),
        [
            ({"hooks": [{"hookName": "createContainer", "path": "/x"}]}, "hooks (createContainer) of a CDI specification"),
            ({"netDevices": [{"hostInterfaceName": "e", "name": "f"}]}, "netDevices of a CDI specification"),
            ({"intelRdt": {"closID": "x"}}, "intelRdt of a CDI specification"),
            ({"env": ["=x"]}, "invalid environment variable"),
            ({"additionalGids": [-1]}, "invalid additionalGids"),
            ({"deviceNodes": [{"path": "/dev/../etc/x", "hostPath": "/dev/full"}]}, "'/etc/x' is not below /dev"),
            ({"deviceNodes": [{"path": "/dev/no-such-node"}]}, "/dev/no-such-node: No such file or directory"),
            ({"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/passwd"}]}, "is no device node"),
            ({"deviceNodes": [{"path": "/dev/full", "type": "b"}]}, "is no device node of that type"),
            ({"deviceNodes": [{"path": "/dev/full", "permissions": "x"}]}, "permissions are invalid"),
            ({"deviceNodes": [{"path": "/dev/full", "major": True}]}, "invalid major"),
            ({"mounts": [{"hostPath": "a", "containerPath": "/b"}]}, "absolute paths"),
            ({"mounts": [{"hostPath": "/no-such", "containerPath": "/b"}]}, "/no-such does not exist"),
            ({"mounts": [{"hostPath": "/", "containerPath": "/b", "type": "tmpfs"}]}, "type tmpfs is not supported"),
            ({"mounts": [{"hostPath": "/", "containerPath": "/b", "options": ["shared"]}]}, "options"),
        ],
    )
    def test_what_can_not_be_had_is_named_with_the_device(self, folder: Path, entry: dict[str, Any], cause: str) -> None:
        with pytest.raises(RuntimeFault) as caught:
            edits(folder, entry)
        assert str(caught.value).startswith("device v.com/c=d: ")
        assert cause in str(caught.value)


def test_the_program_of_v2_has_a_rule_more_for_each_device() -> None:
    assert devices.program((("c", 10, 229, "rwm"),)) != devices.program()
    # Kind, major, minor: 3 jumps, allow: 2; a part of the accesses costs 3 more.
    assert len(devices.program((("c", 10, 229, "rwm"),))) == len(devices.program()) + 5 * 8
    assert len(devices.program((("c", 10, 229, "r"),))) == len(devices.program()) + 8 * 8


@pytest.mark.integration
class TestSteps:
    TRY = "exec 3<>/dev/fuse && echo opened; mknod /tmp/cuse c 10 203; exec 3<>/tmp/cuse && echo other"

    def test_the_device_can_be_opened_and_no_other(self, limited: Runner) -> None:
        done = limited(self.TRY, devices=(FUSE,))
        assert done.out == "opened\n"
        assert "not permitted" in done.err

    def test_without_it_there_is_none(self, limited: Runner) -> None:
        done = limited(f"mknod /dev/fuse c 10 229; {self.TRY}")
        assert done.out == ""

    def test_the_node_has_its_mode_and_is_the_users(self, limited: Runner) -> None:
        nodes = (DeviceNode("/dev/deep/er/full", "c", 1, 7, 0o640), DeviceNode("/dev/zero", "c", 1, 5, 0o604, 5, 6))
        look = "stat -c '%a %u %g %t:%T' /dev/deep/er/full /dev/zero; id -G"
        done = limited(look, user="app", devices=nodes, additional_gids=(44,))
        assert done.out.splitlines() == ["640 1000 1001 1:7", "604 5 6 1:5", "1001 44 2000"]

    def test_reading_alone_can_be_allowed(self, limited: Runner) -> None:
        node = DeviceNode("/dev/fuse", "c", 10, 229, access="r")
        done = limited("exec 3</dev/fuse && echo read; exec 3>/dev/fuse && echo write", devices=(node,))
        assert done.out == "read\n"


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_bubblewrap_refuses_by_name(rootfs: str) -> None:
    with pytest.raises(RuntimeFault, match="bwrap can't honour RUN --device"):
        Runner("bwrap", rootfs).executor.admit(Sandbox("/none", devices=(FUSE,)))

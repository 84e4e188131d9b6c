"""Devices by the Container Device Interface (tags.cncf.io/container-device-interface): specifications of a machine's folders, and
what they change in a sandbox.

A specification belongs to the machine's administrator, as buildkitd's does: what it names of the host is given to a step. Files
are JSON; YAML is not read, since no parser of it comes with Python.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any

from runtime.errors import RuntimeFault
from runtime.spec import BindMount, DeviceNode
from runtime.values import dataclass, field

DEFAULT_FOLDERS = ("/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi")
CLASS_ANNOTATION = "org.mobyproject.buildkit.device.class"
AUTO_ALLOW_ANNOTATION = "org.mobyproject.buildkit.device.autoallow"
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_MAX_FILE = 16 << 20
_TYPES = {"": "", "b": "b", "c": "c", "u": "c"}
_MOUNT_OPTIONS = frozenset(("ro", "rw", "bind", "rbind", "nosuid", "nodev", "noexec", "private", "rprivate"))


@dataclass(frozen=True, slots=True)
class Edits:
    """What is changed in a sandbox: variables, device nodes, mounts, and groups that the command is in."""

    env: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[BindMount, ...] = ()
    gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """``name``: ``vendor.com/class=device``. ``edits`` and ``shared`` (those of the whole file ``path``) are as written there."""

    name: str
    path: str
    annotations: dict[str, str] = field(default_factory=dict)
    edits: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.name.partition("=")[0]


@dataclass(frozen=True, slots=True)
class Registry:
    """The devices of the folders, by name in order. ``problems``: files that were passed over, and why."""

    devices: dict[str, Device] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def find(self, wanted: str) -> tuple[str, ...]:
        """Names of what ``wanted`` stands for: a device, the first or all (``*``) of a kind, or those of a class by annotation."""
        kind, _, name = wanted.partition("=")
        of_kind = [one for one in self.devices if one.startswith(f"{kind}=")]
        found: list[str] = []
        if _KIND.fullmatch(kind):
            if name == "":
                found = of_kind[:1]
            elif name == "*":
                found = of_kind
            elif wanted in self.devices:
                found = [wanted]
        return tuple(found or (n for n, d in self.devices.items() if d.annotations.get(CLASS_ANNOTATION) == wanted))

    def edits(self, names: tuple[str, ...]) -> Edits:
        """Of all these devices; those of a file come before the first of its devices, once. RuntimeFault: what can't be had."""
        parts: list[Edits] = []
        seen: set[str] = set()
        for name in dict.fromkeys(names):
            device = self.devices.get(name)
            if device is None:
                raise RuntimeFault(f"device {name} is not registered", hint=self.hint)
            if device.path not in seen:
                seen.add(device.path)
                parts.append(_edits(device.shared, device.path))
            parts.append(_edits(device.edits, name))
        return Edits(
            tuple(entry for part in parts for entry in part.env),
            tuple({node.path: node for part in parts for node in part.nodes}.values()),
            tuple(mount for part in parts for mount in part.mounts),
            tuple(gid for part in parts for gid in part.gids),
        )

    @property
    def hint(self) -> str:
        """Why a device may be missing."""
        if self.problems:
            return "passed over: " + "; ".join(self.problems[:3])
        return "devices are registered by CDI specifications in JSON, in /etc/cdi or /var/run/cdi"


def read(folders: tuple[str, ...]) -> Registry:
    """What is registered now. A later folder goes before an earlier one; a name that two files of one folder have is nobody's."""
    devices: dict[str, Device] = {}
    problems: list[str] = []
    for folder in dict.fromkeys(os.path.realpath(one) for one in folders):
        here: dict[str, Device] = {}
        twice: set[str] = set()
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                problems.append(f"{folder}: {error.strerror}")
            continue
        for name in names:
            path = f"{folder}/{name}"
            if name.endswith((".yaml", ".yml")):
                problems.append(f"{path}: YAML is not read, write it as JSON")
            if not name.endswith(".json"):
                continue
            try:
                for device in _specification(path):
                    if device.name in here:
                        twice.add(device.name)
                    here[device.name] = device
            except (OSError, ValueError, RecursionError) as error:
                problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
        problems += [f"{folder}: two files have the device {name}" for name in sorted(twice)]
        devices = {name: one for name, one in devices.items() if name not in twice}
        devices |= {name: one for name, one in here.items() if name not in twice}
    return Registry({name: devices[name] for name in sorted(devices)}, tuple(problems))


def _specification(path: str) -> list[Device]:
    """OSError, ValueError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("no regular file")
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError("too large")
    document = _object(json.loads(data), "the document")
    kind = _text(document, "kind")
    if not _text(document, "cdiVersion") or not _KIND.fullmatch(kind):
        raise ValueError("cdiVersion or kind is missing or invalid")
    shared, annotations = _object(document.get("containerEdits") or {}, "containerEdits"), _annotations(document)
    found = []
    for entry in _list(document, "devices"):
        name = _text(entry, "name")
        if not _NAME.fullmatch(name):
            raise ValueError(f"invalid device name {name!r}")
        edits = _object(entry.get("containerEdits") or {}, "containerEdits")
        found.append(Device(f"{kind}={name}", path, {**annotations, **_annotations(entry)}, edits, shared))
    return found


def _edits(edits: dict[str, Any], name: str) -> Edits:
    for key in ("hooks", "netDevices", "intelRdt"):
        if edits.get(key):
            first = edits[key][0] if isinstance(edits[key], list) else {}
            what = f" ({first.get('hookName')})" if isinstance(first, dict) and first.get("hookName") else ""
            cause = f"device {name}: {key}{what} of a CDI specification are not supported"
            raise RuntimeFault(cause, hint="supported are deviceNodes, mounts, env and additionalGids")
    try:
        env = edits.get("env") or []
        if not isinstance(env, list) or not all(isinstance(one, str) and one.find("=") > 0 for one in env):
            raise ValueError("invalid environment variable")
        gids = edits.get("additionalGids") or []
        if not isinstance(gids, list) or not all(type(gid) is int and 0 <= gid < 1 << 32 for gid in gids):
            raise ValueError("invalid additionalGids")
        nodes = tuple(_node(one) for one in _list(edits, "deviceNodes"))
        return Edits(tuple(env), nodes, tuple(_mount(one) for one in _list(edits, "mounts")), tuple(gid for gid in gids if gid))
    except ValueError as error:
        raise RuntimeFault(f"device {name}: {error}") from None


def _node(node: dict[str, Any]) -> DeviceNode:
    """What is not said is that of the host's node."""
    path = os.path.normpath(_text(node, "path"))
    kind, access = _TYPES.get(_text(node, "type"), "?"), _text(node, "permissions") or "rwm"
    if not path.startswith("/dev/"):
        raise ValueError(f"device node {path!r} is not below /dev")
    if kind == "?" or set(access) - set("rwm"):
        raise ValueError(f"device node {path}: the type or the permissions are invalid")
    numbers = {key: node.get(key) for key in ("major", "minor", "fileMode", "uid", "gid")}
    for key, value in numbers.items():
        if value is not None and (type(value) is not int or not 0 <= value < 1 << 32):
            raise ValueError(f"device node {path}: invalid {key}")
    major, minor, mode = numbers["major"] or 0, numbers["minor"] or 0, numbers["fileMode"]
    host = _text(node, "hostPath") or path
    try:
        status = os.lstat(host)
    except OSError as error:
        if not (kind and major):
            raise ValueError(f"device node {path}: {host}: {error.strerror}") from None
    else:
        mode = stat.S_IMODE(status.st_mode) if mode is None else mode
        if not (kind and major):
            real = {stat.S_IFBLK: "b", stat.S_IFCHR: "c"}.get(stat.S_IFMT(status.st_mode), "")
            if not real or kind not in ("", real):
                raise ValueError(f"device node {path}: {host} is no device node of that type")
            kind = real
            if not major:
                major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return DeviceNode(path, kind, major, minor, 0o666 if mode is None else mode & 0o7777, numbers["uid"], numbers["gid"], access)


def _mount(mount: dict[str, Any]) -> BindMount:
    source, dest, kind = _text(mount, "hostPath"), _text(mount, "containerPath"), _text(mount, "type")
    options = mount.get("options") or []
    if not source.startswith("/") or not dest.startswith("/"):
        raise ValueError("a mount needs absolute paths, hostPath and containerPath")
    if kind not in ("", "bind", "none"):
        raise ValueError(f"mount {dest}: type {kind} is not supported")
    if not isinstance(options, list) or not set(map(str, options)) <= _MOUNT_OPTIONS:
        raise ValueError(f"mount {dest}: options {options} are not supported")
    if not os.path.exists(source):
        raise ValueError(f"mount {dest}: {source} does not exist")
    flags = {name: name in options for name in ("nosuid", "nodev", "noexec")}
    return BindMount(os.path.normpath(dest), source, readonly="ro" in options, is_file=not os.path.isdir(source), **flags)


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value


def _list(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = value.get(key) or []
    if not isinstance(found, list):
        raise ValueError(f"{key} is no list")
    return [_object(one, f"an entry of {key}") for one in found]


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str) or "\0" in found:
        raise ValueError(f"{key} is no text")
    return found


def _annotations(value: dict[str, Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in _object(value.get("annotations") or {}, "annotations").items()}

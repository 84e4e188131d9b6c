"""The OCI runtime specification's config.json for a sandbox: BuildKit's default restrictions (executor/oci/spec*.go).

A pure function of its arguments: what was asked for, who runs, what the host allows.
"""

from __future__ import annotations

from runtime import capabilities, resources, seccomp_policy
from runtime.facts import Facts
from runtime.spec import DEFAULT_HOSTNAME, BindMount, DeviceNode, Process, Sandbox, TmpfsMount
from runtime.user import User

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/scsi",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# What runc and crun put into /dev, as the specification wants it.
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}

# Extra devices of an insecure sandbox: (path, major, minor), character devices (util/entitlements/security).
INSECURE_DEVICES = (
    ("/dev/kmsg", 1, 11),
    ("/dev/cuse", 10, 203),
    ("/dev/fuse", 10, 229),
    ("/dev/kvm", 10, 232),
    ("/dev/net/tun", 10, 200),
    ("/dev/loop-control", 10, 237),
)

_UNLIMITED = (1 << 64) - 1


def config(
    sandbox: Sandbox,
    process: Process,
    user: User,
    facts: Facts,
    *,
    resolv_conf: str,
    hosts: str,
    cgroup: str,
    sysfs: str = "",
    most_pids: int = 0,
) -> dict[str, object]:
    """The whole document. ``resolv_conf`` and ``hosts`` are paths of files to mount; ``cgroup`` is "" for none.

    ``sysfs``: the folder of a sysfs of the caller's network namespace, which is a step's without network; "" to have the
    runtime make a network namespace. ``most_pids``: how many processes the step may have, 0 for any number.
    """
    insecure = sandbox.security == "insecure"
    rootless = facts.user_namespace
    granted = granted_capabilities(sandbox, facts)
    sets = {"bounding": granted, "permitted": granted, "effective": granted}
    if insecure:
        sets |= {"inheritable": granted, "ambient": granted}
    namespaces = ["pid", "ipc", "uts", "mount"]
    if sandbox.network == "none" and not sysfs:
        namespaces.append("network")
    if facts.cgroup_namespace:
        namespaces.append("cgroup")
    linux: dict[str, object] = {
        "namespaces": [{"type": kind} for kind in namespaces],
        "maskedPaths": [] if insecure else list(MASKED_PATHS),
        "readonlyPaths": [] if insecure else list(READONLY_PATHS),
    }
    if not insecure:
        linux["seccomp"] = seccomp_policy.as_oci(facts.architecture, frozenset(granted))
    if cgroup:
        linux["cgroupsPath"] = cgroup
        limits = {**resources.as_oci(sandbox.resources), **({"pids": {"limit": most_pids}} if most_pids else {})}
        linux["resources"] = {"devices": _device_rules(sandbox), **limits}
    nodes = _insecure_devices(facts) if insecure and not rootless else []
    named = [_node(device, user) for device in sandbox.devices]
    paths = {node["path"] for node in named}
    if nodes or named:
        linux["devices"] = [node for node in nodes if node["path"] not in paths] + named
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": _user(user, facts, sandbox.additional_gids),
            "args": list(process.args),
            "env": list(process.env),
            "cwd": absolute(process.cwd),
            "capabilities": {name: list(value) for name, value in sets.items()},
            "rlimits": [
                {"type": f"RLIMIT_{name.upper()}", "soft": soft & _UNLIMITED, "hard": hard & _UNLIMITED}
                for name, soft, hard in sandbox.ulimits
            ],
            "noNewPrivileges": False,
        },
        "root": {"path": sandbox.rootfs, "readonly": sandbox.readonly_root},
        "hostname": sandbox.hostname or DEFAULT_HOSTNAME,
        "mounts": _mounts(sandbox, facts, resolv_conf, hosts, sysfs, nodev=not (cgroup or rootless or insecure)),
        "linux": linux,
    }


def granted_capabilities(sandbox: Sandbox, facts: Facts) -> tuple[str, ...]:
    """Names: BuildKit's fourteen, or all that this process has for an insecure sandbox."""
    return facts.capabilities if sandbox.security == "insecure" else capabilities.DEFAULT


def absolute(path: str) -> str:
    """``path`` from the sandbox's root, lexically clean: BuildKit takes a relative destination from the root."""
    import posixpath

    return posixpath.normpath("/" + path.lstrip("/"))


def _user(user: User, facts: Facts, more: tuple[int, ...]) -> dict[str, object]:
    fields: dict[str, object] = {"uid": user.uid, "gid": user.gid}
    if facts.setgroups:
        fields["additionalGids"] = [group for group in _groups(user, more) if facts.has_gid(group)]
    return fields


def _groups(user: User, more: tuple[int, ...]) -> tuple[int, ...]:
    groups = user.groups if user.gid in user.groups else (user.gid, *user.groups)
    return tuple(dict.fromkeys((*groups, *more)))


def pretended(user: User, more: tuple[int, ...]) -> dict[str, object]:
    """Whom a command is to see itself as, where the kernel knows one id only. ``more``: groups besides the user's."""
    return {"uid": user.uid, "gid": user.gid, "groups": _groups(user, more)}


def _device_rules(sandbox: Sandbox) -> list[dict[str, object]]:
    if sandbox.security == "insecure":
        return [{"allow": True, "type": kind, "access": "rwm"} for kind in ("c", "b")]
    rules: list[dict[str, object]] = [{"allow": False, "access": "rwm"}]
    for one in sandbox.devices:
        rules.append({"allow": True, "type": one.kind, "major": one.major, "minor": one.minor, "access": one.access})
    return rules


def _node(device: DeviceNode, user: User) -> dict[str, object]:
    """An owner that is not said is the command's, as CDI has it."""
    node: dict[str, object] = {"path": device.path, "type": device.kind, "major": device.major, "minor": device.minor}
    uid = user.uid if device.uid is None else device.uid
    return node | {"fileMode": device.mode, "uid": uid, "gid": user.gid if device.gid is None else device.gid}


def _insecure_devices(facts: Facts) -> list[dict[str, object]]:
    devices: list[dict[str, object]] = [
        {"path": path, "type": "c", "major": major, "minor": minor} for path, major, minor in INSECURE_DEVICES
    ]
    devices += [{"path": f"/dev/loop{n}", "type": "b", "major": 7, "minor": n} for n in range(facts.loops)]
    return devices


_Mount = dict[str, object]


def _mount(destination: str, kind: str, source: str, *options: str) -> _Mount:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _mounts(sandbox: Sandbox, facts: Facts, resolv_conf: str, hosts: str, sysfs: str, *, nodev: bool) -> list[_Mount]:
    """``nodev``: no cgroup limits devices, so a node that the step makes must not be one that it can open, wherever it is."""
    access = "rw" if sandbox.security == "insecure" else "ro"
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if facts.has_gid(5):
        devpts.append("gid=5")
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *devpts),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    ]
    if nodev:
        mounts[1]["options"] = ["nosuid", "nodev", "strictatime", "mode=755", "size=65536k"]
        mounts[2:2] = [_mount(f"/dev/{name}", "bind", f"/dev/{name}", "bind", "nosuid", "noexec") for name in DEVICES]
    if facts.user_namespace:
        # A new sysfs needs a network namespace of our own. Recursively read-only: "ro" alone would leave the cgroup tree.
        mounts.append(_mount("/sys", "bind", sysfs or "/sys", "rbind", "nosuid", "noexec", "nodev", "ro", "rro"))
    else:
        mounts.append(_mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access))
    bound = ("nosuid", "noexec", "nodev", "rbind", "ro")
    mounts.append(_mount("/etc/resolv.conf", "bind", resolv_conf, *bound))
    mounts.append(_mount("/etc/hosts", "bind", hosts, *bound))
    if facts.cgroups.kind != "none" and not facts.user_namespace:
        mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", access, "nosuid", "noexec", "nodev"))
    if sandbox.shm_size is not None:
        mounts.append(_tmpfs(TmpfsMount("/dev/shm", sandbox.shm_size), nodev))
    mounts += [_tmpfs(mount, nodev) if isinstance(mount, TmpfsMount) else _bind(mount, nodev) for mount in sandbox.mounts]
    return _last_of_each(mounts)


def _tmpfs(mount: TmpfsMount, nodev: bool) -> _Mount:
    options = ["nosuid"]
    if nodev:
        options.append("nodev")
    if mount.readonly:
        options.append("ro")
    if mount.size:
        options.append(f"size={mount.size}")
    options.append(f"mode={0o1777 if mount.mode is None else mount.mode:o}")
    return _mount(absolute(mount.dest), "tmpfs", "tmpfs", *options)


def _bind(mount: BindMount, nodev: bool) -> _Mount:
    options = ["rbind"]
    wanted = (("nosuid", mount.nosuid), ("nodev", mount.nodev or nodev), ("noexec", mount.noexec))
    options += [name for name, is_wanted in wanted if is_wanted]
    if mount.readonly:
        options.append("ro")
    return _mount(absolute(mount.dest), "bind", mount.source, *options)


def _last_of_each(mounts: list[_Mount]) -> list[_Mount]:
    """Two mounts on one place: the later one, where the earlier one stood in the order."""
    kept: dict[object, _Mount] = {}
    for mount in mounts:
        kept[mount["destination"]] = mount
    return list(kept.values())

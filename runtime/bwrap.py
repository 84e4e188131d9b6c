"""bubblewrap: the same sandbox as runc's as far as bubblewrap can, for hosts without an OCI runtime or cgroups.

Known limits: no_new_privs is always on (sudo and other set-uid tools can't work in a step), and there is no cgroup: so no
--cgroup-parent and no --resource, and the devices a step may open are limited by nodev, which a step's own harmless nodes meet too.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from runtime import launch, netfiles, oci, resources, seccomp, trampoline, trial
from runtime.base import JobExecutor
from runtime.errors import RuntimeFault
from runtime.executor import require_program
from runtime.job import STATUS_FD, Job, TreeMount
from runtime.linux import syscalls
from runtime.linux.userns import has_capability
from runtime.spec import DEFAULT_HOSTNAME, BindMount, TmpfsMount

if TYPE_CHECKING:
    from runtime.spec import Sandbox

_CAP_SYS_ADMIN = 21
_TRAMPOLINE_FD, _SECCOMP_FD = 10, 11
_DEFAULT_SHM = 64 << 20
# These belong to the sandbox: bubblewrap mounts over them, following links of the rootfs, so they must not be any.
_OWN_FOLDERS = ("dev", "proc", "sys")


class BubblewrapExecutor(JobExecutor):
    """See Executor."""

    name = "bwrap"

    def check(self) -> None:
        """See Executor."""
        require_program("bwrap", "bubblewrap", "native")
        if not has_capability(_CAP_SYS_ADMIN):
            raise RuntimeFault("bwrap needs root or a user namespace")
        facts = self._facts
        if facts.user_namespace or facts.cgroups.kind == "none":  # a container around us, maybe: much may be refused
            trial.run("bwrap", facts, self._job, "native")

    def admit(self, sandbox: Sandbox) -> None:
        """See Executor."""
        launch.check_options(sandbox, self._facts)
        if sandbox.cgroup_parent:
            raise RuntimeFault("bwrap can't honour --cgroup-parent", hint="use --runtime runc")
        if sandbox.devices:
            raise RuntimeFault("bwrap can't honour RUN --device", hint="use --runtime native or runc")
        for name in resources.asked(sandbox.resources):
            raise RuntimeFault(f"bwrap can't honour --resource {name}", hint="use --runtime native or runc")

    def _job(self, request: launch.Request, scratch: str) -> Job:
        program = require_program("bwrap", "bubblewrap", "native")
        sandbox, facts = request.sandbox, request.facts
        insecure = sandbox.security == "insecure"
        granted = oci.granted_capabilities(sandbox, facts)
        user = request.user
        groups = user.groups if user.gid in user.groups else (user.gid, *user.groups)
        command = trampoline.Command(
            args=request.process.args,
            env=request.process.env,
            uid=user.uid,
            gid=user.gid,
            groups=tuple(group for group in groups if facts.has_gid(group)) if facts.setgroups else None,
            granted=granted,
            held=facts.capabilities,
            all_sets=insecure,
            rlimits=launch.rlimits(sandbox),
        )
        files = {
            "resolv.conf": (netfiles.resolv_conf(sandbox.network), False),
            "hosts": (netfiles.hosts(sandbox.hostname, sandbox.extra_hosts), False),
            "init": (trampoline.build(facts.architecture, command).hex(), True),
        }
        fds = {"init": _TRAMPOLINE_FD}
        if not insecure:
            files["seccomp"] = (seccomp.compile_policy(facts.architecture, frozenset(granted)).hex(), True)
            fds["seccomp"] = _SECCOMP_FD
        if request.process.stdin:
            files["stdin"] = (request.process.stdin.hex(), True)
        return Job(
            argv=(program, *self._options(request, scratch)),
            scratch=scratch,
            files=files,
            programs=("init",),
            stdin="stdin" if request.process.stdin else "",
            fds=fds,
            status="status",
            tree=self._tree(request, scratch),
            # runc, too, makes a working folder that lies inside a mount.
            tree_cwd="" if _is_own(request.process.cwd) else request.process.cwd,
            allow_devices=(sandbox.rootfs,) if insecure else (),
            own_network=sandbox.network == "none",  # bubblewrap could make one, but not the sysfs of it
        )

    def _options(self, request: launch.Request, scratch: str) -> list[str]:
        sandbox = request.sandbox
        insecure = sandbox.security == "insecure"
        options = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--as-pid-1", "--new-session", "--die-with-parent"]
        options += ["--hostname", sandbox.hostname or DEFAULT_HOSTNAME, "--json-status-fd", str(STATUS_FD)]
        options += ["--dev-bind" if insecure else "--bind", f"{scratch}/tree", "/"]
        options += ["--proc", "/proc", "--dev", "/dev", *self._shm(sandbox), "--mqueue", "/dev/mqueue"]
        options += ["--bind" if insecure else "--ro-bind", f"{scratch}/sys" if sandbox.network == "none" else "/sys", "/sys"]
        if insecure:
            for path, _, _ in oci.INSECURE_DEVICES:
                options += ["--dev-bind-try", path, path]
        else:
            options += _masks()
            options += ["--seccomp", str(_SECCOMP_FD)]
        options += self._below_dev(sandbox)
        if request.process.cwd.startswith("/dev/"):
            options += ["--perms", "0755", "--dir", request.process.cwd]
        if sandbox.readonly_root:
            options += ["--remount-ro", "/"]
        return [*options, "--chdir", request.process.cwd, "--", f"/proc/self/fd/{_TRAMPOLINE_FD}"]

    def _shm(self, sandbox: Sandbox) -> list[str]:
        size = sandbox.shm_size
        for mount in sandbox.mounts:
            if oci.absolute(mount.dest) == "/dev/shm":
                if isinstance(mount, BindMount):
                    return []
                size = mount.size
        limit = ["--size", str(_DEFAULT_SHM if size is None else size)] if size != 0 else []
        return ["--perms", "1777", *limit, "--tmpfs", "/dev/shm"]

    def _below_dev(self, sandbox: Sandbox) -> list[str]:
        """Mounts below /dev go on bubblewrap's own tmpfs, in which no link of the rootfs can mislead."""
        options: list[str] = []
        for mount in sandbox.mounts:
            dest = oci.absolute(mount.dest)
            if not dest.startswith("/dev/"):
                continue
            if isinstance(mount, BindMount):
                options += ["--ro-bind" if mount.readonly else "--bind", mount.source, dest]
            elif dest != "/dev/shm":
                perms = f"{0o1777 if mount.mode is None else mount.mode:o}"
                options += ["--perms", perms, *(["--size", str(mount.size)] if mount.size else []), "--tmpfs", dest]
        return options

    def _tree(self, request: launch.Request, scratch: str) -> tuple[TreeMount, ...]:
        sandbox = request.sandbox
        for name in _OWN_FOLDERS:
            path = os.path.join(sandbox.rootfs, name)
            if os.path.lexists(path) and not stat.S_ISDIR(os.lstat(path).st_mode):
                raise RuntimeFault(f"/{name} of the root file system is not a folder")
        small = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
        tree: dict[str, TreeMount] = {
            "/": TreeMount("/", sandbox.rootfs),
            "/etc/resolv.conf": TreeMount("/etc/resolv.conf", f"{scratch}/resolv.conf", is_file=True, attributes=small),
            "/etc/hosts": TreeMount("/etc/hosts", f"{scratch}/hosts", is_file=True, attributes=small),
        }
        for mount in sandbox.mounts:
            dest = oci.absolute(mount.dest)
            if dest.startswith("/dev/"):
                continue
            if dest == "/" or _is_own(dest):
                raise RuntimeFault(f"bwrap can't mount on {dest}", hint="use --runtime runc")
            tree[dest] = _tree_mount(mount, dest)
        return tuple(tree.values())


def _is_own(path: str) -> bool:
    return any(f"{path}/".startswith(f"/{name}/") for name in _OWN_FOLDERS)


def _tree_mount(mount: BindMount | TmpfsMount, dest: str) -> TreeMount:
    attributes = syscalls.MOUNT_ATTR_RDONLY if mount.readonly else 0
    if isinstance(mount, TmpfsMount):
        return TreeMount(dest, size=mount.size, attributes=attributes, mode=0o1777 if mount.mode is None else mount.mode)
    for wanted, bit in (
        (mount.nosuid, syscalls.MOUNT_ATTR_NOSUID),
        (mount.nodev, syscalls.MOUNT_ATTR_NODEV),
        (mount.noexec, syscalls.MOUNT_ATTR_NOEXEC),
    ):
        attributes |= bit if wanted else 0
    is_file = mount.is_file or not os.path.isdir(mount.source)
    return TreeMount(dest, mount.source, is_file=is_file, attributes=attributes)


def _masks() -> list[str]:
    """Paths of proc and sys that runc hides or makes read-only, as far as this kernel has them."""
    options: list[str] = []
    for path in oci.MASKED_PATHS:
        if os.path.isdir(path):
            options += ["--tmpfs", path, "--remount-ro", path]
        elif os.path.exists(path):
            options += ["--dev-bind", "/dev/null", path]  # else nodev makes it an error to open
    for path in oci.READONLY_PATHS:
        if os.path.exists(path):
            options += ["--ro-bind", path, path]
    return options

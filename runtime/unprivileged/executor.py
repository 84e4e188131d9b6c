"""The builder's side of the executor for a pod with nothing relaxed: a chroot, and answers to system calls.

It is for root of a container that may neither make namespaces nor mount. docs/unprivileged.md says what that protects, and what
not.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, cast

from runtime import capabilities, launch, mountpoints, netfiles, oci, resources, seccomp
from runtime.base import JobExecutor
from runtime.errors import RuntimeFault
from runtime.executor import find_program
from runtime.job import Job
from runtime.linux import notify
from runtime.linux.overrides import Table
from runtime.linux.userns import has_capability
from runtime.places import CommandFault
from runtime.spec import BindMount, ExitStatus, Process, Sandbox
from runtime.unprivileged import below_proot, probe
from runtime.unprivileged.placing import Places
from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.spec import Cancelled

_CONFIG, _FILTER = "bundle/config.json", "seccomp"
_NEEDED = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT")


class UnprivilegedExecutor(JobExecutor):
    """See Executor. The step shares all namespaces of the builder: the container around is the sandbox."""

    name = "unprivileged"

    def check(self) -> None:
        """See Executor."""
        facts = self._facts
        if not seccomp.supports(facts.architecture) or not notify.supports(facts.architecture):
            raise RuntimeFault(f"unprivileged knows no system calls of {facts.architecture}", hint="use --runtime runc or crun")
        if not self._chroots() and find_program("proot") is None:
            hint = "apt install proot, run the container as root, or allow user namespaces"
            raise RuntimeFault("unprivileged needs uid 0 or proot: chroot is root's", hint=hint)
        missing = [name for name in _NEEDED if not has_capability(capabilities.NAMES.index(name))]
        if missing and self._chroots():
            raise RuntimeFault(
                f"unprivileged needs {', '.join(missing)}", hint="run the container with its default capabilities"
            )
        reason = probe.refusal(facts.architecture)
        if reason:
            raise RuntimeFault(f"unprivileged does not work here: {reason}")

    @staticmethod
    def _chroots() -> bool:
        return os.geteuid() == 0

    def admit(self, sandbox: Sandbox) -> None:
        """See Executor."""
        launch.check_options(sandbox, self._facts)
        refused = {
            "--network=none": sandbox.network == "none",
            "--security=insecure": sandbox.security == "insecure",
            "--cgroup-parent": bool(sandbox.cgroup_parent),
            "a read-only root file system": sandbox.readonly_root,
            "--shm-size": sandbox.shm_size is not None,
            "RUN --device": bool(sandbox.devices),
            **dict.fromkeys((f"--resource {name}" for name in resources.asked(sandbox.resources)), True),
        }
        for what, asked in refused.items():
            if asked:
                hint = "use another runtime: pybuild doctor says what each lacks here"
                raise RuntimeFault(f"{what} can't be had without namespaces", hint=hint)

    def run(
        self, sandbox: Sandbox, process: Process, on_output: Callable[[int, bytes], None], cancelled: Cancelled
    ) -> ExitStatus:
        """See Executor."""
        self.admit(sandbox)
        request = launch.check(sandbox, process, self._facts)
        scratch = "/nonexistent"
        try:
            with launch.prepared(request):
                places = Places(os.path.realpath(sandbox.rootfs))
                try:
                    job = self._placed(places, request, self._job(request, scratch))
                    return launch.run_prepared(self.name, request, job, on_output, cancelled)
                finally:
                    places.close()
        except CommandFault as fault:
            return launch.not_started(str(fault), ExitStatus(1), on_output)

    def _placed(self, places: Places, request: launch.Request, job: Job) -> Job:
        sandbox = request.sandbox
        try:
            if self._chroots():
                shown, devices = _place(places, sandbox)
                return replace(job, shown=shown, devices=devices)
            below_proot.check_command(sandbox, request.process)
            program = find_program("proot")
            assert program is not None  # admitted by check
            if not sandbox.owners:
                raise RuntimeFault("an ordinary user's step needs a file for its owners")
            places.table = Table(sandbox.owners)
            return replace(
                job,
                owners=os.path.realpath(sandbox.owners),
                proot=below_proot.arguments(program, places, sandbox, request.process.cwd),
            )
        except OSError as error:
            raise RuntimeFault(f"cannot set up the step's files: {error.strerror}: {error.filename}") from None

    def _job(self, request: launch.Request, scratch: str) -> Job:
        sandbox, facts = request.sandbox, request.facts
        config = oci.config(
            sandbox, request.process, request.user, facts, resolv_conf="", hosts="", cgroup="", sysfs=""
        )
        process = cast("dict[str, object]", config["process"])
        process["pretended"] = oci.pretended(request.user, sandbox.additional_gids)
        sets = cast("dict[str, list[str]]", process["capabilities"])
        # A container may have been given fewer.
        process["capabilities"] = {kind: [name for name in names if name in facts.capabilities] for kind, names in sets.items()}
        files = {_CONFIG: (json.dumps(config), False)}
        granted = frozenset(oci.granted_capabilities(sandbox, facts))
        files[_FILTER] = (seccomp.compile_policy(facts.architecture, granted).hex(), True)
        if request.process.stdin:
            files["stdin"] = (request.process.stdin.hex(), True)
        return Job(
            argv=(),
            scratch=scratch,
            files=files,
            stdin="stdin" if request.process.stdin else "",
            container=_CONFIG,
            filter=_FILTER,
            bare=True,
        )


def _place(places: Places, sandbox: Sandbox) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Puts the mounts in place; gives (name in the step, file) of those that are shown by answers, and such devices."""
    devices = places.devices()
    # Real files: a process that changed its user has nobody to answer for it.
    places.file("/etc/resolv.conf", netfiles.resolv_conf(sandbox.network).encode())
    places.file("/etc/hosts", netfiles.hosts(sandbox.hostname, sandbox.extra_hosts).encode())
    shown: list[tuple[str, str]] = []
    for mount in sandbox.mounts:
        dest = oci.absolute(mount.dest)
        if not isinstance(mount, BindMount):
            if mount.size:
                raise RuntimeFault(f"mount {dest}: the size of a tmpfs can't be limited without namespaces", hint="leave size out")
            places.folder(dest, 0o1777 if mount.mode is None else mount.mode)
            continue
        mode = os.stat(mount.source).st_mode
        if stat.S_ISDIR(mode):
            (places.copy if mount.readonly else places.move)(dest, mount.source)
        elif stat.S_ISSOCK(mode):
            places.link(dest, mount.source)
        else:
            os.close(mountpoints.make(sandbox.rootfs, dest, is_file=True))
            shown.append((dest, mount.source))
    return tuple(shown), tuple(devices)

"""The builder's side of the native executor."""

from __future__ import annotations

import json
import threading
from typing import cast

from runtime import cgroups, launch, netfiles, oci, resources, seccomp, trial
from runtime.base import GroupedExecutor
from runtime.errors import RuntimeFault
from runtime.foreign import REGISTER
from runtime.job import Job
from runtime.linux.userns import has_capability

_CAP_SYS_ADMIN = 21
_CONFIG, _FILTER = "bundle/config.json", "seccomp"


class NativeExecutor(GroupedExecutor):
    """See Executor. Needs nothing but the kernel."""

    name = "native"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._emulated: set[str] = set()

    def check(self) -> None:
        """See Executor."""
        if not has_capability(_CAP_SYS_ADMIN):
            raise RuntimeFault("native needs root or a user namespace")
        facts = self._facts
        if not seccomp.supports(facts.architecture):
            raise RuntimeFault(
                f"native has no seccomp tables for {facts.architecture}", hint="use --runtime runc or crun"
            )
        # A container around us, maybe: much may be refused that only shows when it is tried.
        if facts.user_namespace or facts.cgroups.kind == "none":
            trial.run(self.name, facts, self._job, "runc")

    def check_emulation(self, rule: str) -> None:
        """See Executor."""
        with self._lock:
            if rule not in self._emulated:
                try:
                    trial.run(self.name, self._facts, self._job, "runc", emulator=rule)
                except RuntimeFault as fault:
                    raise RuntimeFault(str(fault), hint=REGISTER) from None
                self._emulated.add(rule)

    def _job(self, request: launch.Request, scratch: str) -> Job:
        sandbox, facts = request.sandbox, request.facts
        insecure = sandbox.security == "insecure"
        groups = self._groups(request, launch.run_id())
        own_network = sandbox.network == "none"
        config = oci.config(
            sandbox,
            request.process,
            request.user,
            facts,
            resolv_conf=f"{scratch}/resolv.conf",
            hosts=f"{scratch}/hosts",
            cgroup=groups[0] if groups else "",
            sysfs=f"{scratch}/sys" if own_network else "",
        )
        if sandbox.owners:
            pretended = oci.pretended(request.user, sandbox.additional_gids)
            process = {"user": {"uid": 0, "gid": 0}, "pretended": pretended}
            config["process"] = {**cast("dict[str, object]", config["process"]), **process}
        files = {
            _CONFIG: (json.dumps(config), False),
            "resolv.conf": (netfiles.resolv_conf(sandbox.network), False),
            "hosts": (netfiles.hosts(sandbox.hostname, sandbox.extra_hosts), False),
        }
        if not insecure:
            granted = frozenset(oci.granted_capabilities(sandbox, facts))
            files[_FILTER] = (seccomp.compile_policy(facts.architecture, granted).hex(), True)
        if request.process.stdin:
            files["stdin"] = (request.process.stdin.hex(), True)
        needed = resources.controllers(sandbox.resources) | {"pids"}
        limits = resources.writes(facts.cgroups, sandbox.resources) + resources.pids(facts.cgroups)
        folders = cgroups.wanted(facts.cgroups, all_of_them=bool(sandbox.cgroup_parent), controllers=needed)
        return Job(
            argv=(),
            scratch=scratch,
            files=files,
            stdin="stdin" if request.process.stdin else "",
            container=_CONFIG,
            filter="" if insecure else _FILTER,
            owners=sandbox.owners,
            allow_devices=launch.device_mounts(sandbox) if groups or insecure else (),
            own_network=own_network,
            groups=groups,
            group_kind=facts.cgroups.kind,
            group_folders=folders if groups else (),
            emulator=sandbox.emulator,
            group_limits=limits if groups else (),
        )

"""The builder's side of the native executor."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from runtime import cgroups, launch, netfiles, oci, seccomp, trial
from runtime import facts as facts_module
from runtime.errors import RuntimeFault
from runtime.job import Job
from runtime.linux.namespaces import has_capability

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.facts import Facts
    from runtime.spec import Cancelled, ExitStatus, Process, Sandbox

_CAP_SYS_ADMIN = 21
_CONFIG, _FILTER = "bundle/config.json", "seccomp"


class NativeExecutor:
    """See Executor. Needs nothing but the kernel."""

    name = "native"

    def __init__(self) -> None:
        self._swept = False

    @cached_property
    def _facts(self) -> Facts:
        return facts_module.probe()

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

    def admit(self, sandbox: Sandbox) -> None:
        """See Executor."""
        facts = self._facts
        launch.check_options(sandbox, facts)
        launch.check_cgroup_parent(sandbox, facts)

    def run(
        self,
        sandbox: Sandbox,
        process: Process,
        on_output: Callable[[int, bytes], None],
        cancelled: Cancelled,
    ) -> ExitStatus:
        """See Executor."""
        self.admit(sandbox)
        request = launch.check(sandbox, process, self._facts)
        return launch.run(self.name, request, self._job(request, launch.scratch_folder(request)), on_output, cancelled)

    def _job(self, request: launch.Request, scratch: str) -> Job:
        sandbox, facts = request.sandbox, request.facts
        insecure = sandbox.security == "insecure"
        groups = self._groups(request)
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
        return Job(
            argv=(),
            scratch=scratch,
            files=files,
            stdin="stdin" if request.process.stdin else "",
            container=_CONFIG,
            filter="" if insecure else _FILTER,
            allow_devices=launch.device_mounts(sandbox) if groups or insecure else (),
            own_network=own_network,
            groups=groups,
            group_kind=facts.cgroups.kind,
            group_folders=cgroups.wanted(facts.cgroups, all_of_them=bool(sandbox.cgroup_parent)) if groups else (),
        )

    def _groups(self, request: launch.Request) -> tuple[str, ...]:
        """(the sandbox's group, our group around it), or none where cgroups can't be used."""
        found = request.facts.cgroups
        if found.kind == "none" or request.facts.user_namespace:
            return ()
        parent = cgroups.parent_of(request.sandbox.cgroup_parent)
        if not self._swept:
            self._swept = True
            cgroups.sweep(parent, found.folders)
        identity = launch.run_id()
        return (f"{parent}/{identity}/run", f"{parent}/{identity}")

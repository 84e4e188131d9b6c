"""runc and crun: an OCI bundle on the supervisor's private tmpfs, run by the program."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime import launch, netfiles, oci
from runtime.cgroups import sweep
from runtime.errors import RuntimeFault
from runtime.executor import require_program
from runtime.linux.namespaces import has_capability
from runtime.supervisor import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.facts import Facts
    from runtime.spec import Cancelled, ExitStatus, Process, Sandbox

_CAP_SYS_ADMIN = 21

# What runc and crun say when the command itself can't be executed: the step's failure, not ours.
_COMMAND_FAULTS = ("exec: ", "exec user process", "executable file", "open executable", "exec format error", "to cwd")


class OciExecutor:
    """``name`` is "runc" or "crun": they differ in a few options only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._swept = False

    def check(self) -> None:
        """See Executor."""
        require_program(self.name, self.name, "bwrap")
        if not has_capability(_CAP_SYS_ADMIN):
            raise RuntimeFault(f"{self.name} needs root or a user namespace")

    def run(
        self,
        sandbox: Sandbox,
        process: Process,
        on_output: Callable[[int, bytes], None],
        cancelled: Cancelled,
    ) -> ExitStatus:
        """See Executor."""
        request = launch.check(sandbox, process)
        job = self._job(request)
        status, report = launch.execute(request, job, on_output, cancelled)
        if status.code != 0 and report.log and not any(text in report.log for text in _COMMAND_FAULTS):
            raise RuntimeFault(f"{self.name}: {report.log}")
        return status

    def _job(self, request: launch.Request) -> Job:
        import json

        program = require_program(self.name, self.name, "bwrap")
        facts = request.facts
        scratch = launch.scratch_folder(request)
        identity = launch.run_id()
        groups = self._groups(request, identity)
        config = oci.config(
            request.sandbox,
            request.process,
            request.user,
            facts,
            resolv_conf=f"{scratch}/resolv.conf",
            hosts=f"{scratch}/hosts",
            cgroup=groups[0] if groups else "",
        )
        files = {
            "bundle/config.json": (json.dumps(config), False),
            "resolv.conf": (netfiles.resolv_conf(request.sandbox.network), False),
            "hosts": (netfiles.hosts(request.sandbox.hostname, request.sandbox.extra_hosts), False),
        }
        if request.process.stdin:
            files["stdin"] = (request.process.stdin.hex(), True)
        cover = self._hidden(facts, bool(groups))
        return Job(
            argv=(program, *self._options(scratch, bool(groups)), f"pybuild-{identity}"),
            scratch=scratch,
            files=files,
            stdin="stdin" if request.process.stdin else "",
            folders=("state",),
            cover=cover,
            allow_devices=request.sandbox.rootfs if request.sandbox.security == "insecure" else "",
            log="log.json",
            groups=groups,
            group_kind=facts.cgroups.kind,
            group_folders=tuple(folder for folder in facts.cgroups.folders if folder not in cover),
        )

    def _groups(self, request: launch.Request, identity: str) -> tuple[str, ...]:
        """(the sandbox's group, our group around it), or none where cgroups can't be used.

        The runtime removes its own at exit; the one around it keeps the figures until they are read.
        """
        cgroups = request.facts.cgroups
        if cgroups.kind == "none" or request.facts.user_namespace:
            return ()
        parent = os.path.normpath(f"/{request.sandbox.cgroup_parent}/pybuild").replace("//", "/")
        if not self._swept:
            self._swept = True
            sweep(parent, cgroups.folders)
        return (f"{parent}/{identity}/run", f"{parent}/{identity}")

    def _options(self, scratch: str, grouped: bool) -> list[str]:
        options = [f"--root={scratch}/state", f"--log={scratch}/log.json", "--log-format=json"]
        run = ["run", f"--bundle={scratch}/bundle"]
        if self.name == "runc":
            if not grouped:
                options.append("--rootless=true")  # else it insists on a cgroup
            else:
                run.append("--keep")  # leaves the group, whose count of kills is read afterwards
        elif not grouped:
            options.append("--cgroup-manager=disabled")
        return options + run

    def _hidden(self, facts: Facts, grouped: bool) -> tuple[str, ...]:
        """crun refuses to work where a v2 tree is mounted among v1 ones: cover the tree, or all of them.

        Unmounting it would not do: crun makes its folders all the same, then on the tmpfs below, which is the host's.
        """
        if self.name != "crun" or not facts.cgroups.hybrid:
            return ()
        return ("/sys/fs/cgroup/unified",) if grouped else ("/sys/fs/cgroup",)

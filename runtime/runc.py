"""runc and crun: an OCI bundle on the supervisor's private tmpfs, run by the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime import launch, netfiles, oci, resources, seccomp, trial
from runtime.base import GroupedExecutor
from runtime.errors import RuntimeFault
from runtime.executor import require_program
from runtime.job import Job
from runtime.linux.userns import has_capability

if TYPE_CHECKING:
    from runtime.facts import Facts

_CAP_SYS_ADMIN = 21
_OTHER = "native"
"""What to try where the program is missing or does not work."""


class OciExecutor(GroupedExecutor):
    """``name`` is "runc" or "crun": they differ in a few options only."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self) -> None:
        """See Executor."""
        require_program(self.name, self.name, _OTHER)
        if not has_capability(_CAP_SYS_ADMIN):
            raise RuntimeFault(f"{self.name} needs root or a user namespace")
        facts = self._facts
        limited = facts.user_namespace or facts.cgroups.kind != "none"
        if self.name == "crun" and not limited:
            # crun takes "nodev" from the root file system, so that a step could make and open a node of the host's disk.
            raise RuntimeFault(
                f"crun needs a devices cgroup here: {facts.cgroups.reason}", hint="use --runtime runc or --runtime bwrap"
            )
        # Cgroups of v2 are set by BPF, which runc does as our probe did, and crun otherwise; without cgroups, or in a user
        # namespace, much may be refused that only shows when it is tried.
        if facts.user_namespace or facts.cgroups.kind == "none" or (self.name, facts.cgroups.kind) == ("crun", "v2"):
            trial.run(self.name, facts, self._job, _OTHER)

    def _job(self, request: launch.Request, scratch: str) -> Job:
        import json

        program = require_program(self.name, self.name, _OTHER)
        sandbox, facts = request.sandbox, request.facts
        identity = launch.run_id()
        groups = self._groups(request, identity)
        # As root the runtimes make a network namespace with its sysfs; in a user namespace they can't do the latter.
        own_network = sandbox.network == "none" and facts.user_namespace
        config = oci.config(
            sandbox,
            request.process,
            request.user,
            facts,
            resolv_conf=f"{scratch}/resolv.conf",
            hosts=f"{scratch}/hosts",
            cgroup=groups[0] if groups else "",
            sysfs=f"{scratch}/sys" if own_network else "",
            most_pids=resources.most_pids() if facts.cgroups.pids else 0,
        )
        if self.name == "crun":
            config |= self._filter(request)
        files = {
            "bundle/config.json": (json.dumps(config), False),
            "resolv.conf": (netfiles.resolv_conf(sandbox.network), False),
            "hosts": (netfiles.hosts(sandbox.hostname, sandbox.extra_hosts), False),
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
            allow_devices=launch.device_mounts(sandbox) if groups or sandbox.security == "insecure" else (),
            own_network=own_network,
            log="log.json" if self.name == "runc" else "",
            groups=groups,
            group_kind=facts.cgroups.kind,
            group_folders=tuple(folder for folder in facts.cgroups.folders if folder not in cover),
        )

    def _filter(self, request: launch.Request) -> dict[str, object]:
        """The seccomp policy compiled by us, for crun alone: it has no ENOSYS for system calls newer than the policy, by which
        programs built for newer kernels fall back, and where runc's own additions give it. (A crun before 0.18 ignores this and
        takes the policy of the configuration.)"""
        from base64 import b64encode

        facts = request.facts
        if request.sandbox.security == "insecure" or not seccomp.supports(facts.architecture):
            return {}
        granted = frozenset(oci.granted_capabilities(request.sandbox, facts))
        data = b64encode(seccomp.compile_policy(facts.architecture, granted)).decode()
        return {"annotations": {"run.oci.seccomp_bpf_data": data}}

    def _options(self, scratch: str, grouped: bool) -> list[str]:
        # Without a file for its log crun writes JSON to standard error, and nothing else.
        options = [f"--root={scratch}/state", "--log-format=json"]
        run = ["run", f"--bundle={scratch}/bundle"]
        if self.name == "runc":
            options.append(f"--log={scratch}/log.json")
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

"""What the executors have in common: facts that are probed once, the way from a sandbox to a Job, and the cgroups of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

from runtime import cgroups, launch
from runtime import facts as facts_module
from runtime.errors import RuntimeFault
from runtime.foreign import REGISTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.facts import Facts
    from runtime.job import Job
    from runtime.spec import Cancelled, ExitStatus, Process, Sandbox


class JobExecutor(ABC):
    """An Executor that makes a Job of each sandbox."""

    name: str

    @cached_property
    def _facts(self) -> Facts:
        return facts_module.probe()

    @abstractmethod
    def admit(self, sandbox: Sandbox) -> None:
        """See Executor."""

    def check_emulation(self, rule: str) -> None:
        """See Executor."""
        raise RuntimeFault(f"{self.name} runs programs of this machine only", hint=f"use --runtime native, or: {REGISTER}")

    @abstractmethod
    def _job(self, request: launch.Request, scratch: str) -> Job:
        """The Job of a checked request; its supervisor's private tmpfs is at ``scratch``."""

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


class GroupedExecutor(JobExecutor):
    """One whose sandboxes have cgroups, where groups can be made."""

    _swept = False

    def admit(self, sandbox: Sandbox) -> None:
        """See Executor."""
        launch.check_options(sandbox, self._facts)
        launch.check_cgroup_parent(sandbox, self._facts)
        launch.check_resources(sandbox, self._facts)
        launch.check_devices(sandbox, self._facts)

    def _groups(self, request: launch.Request, identity: str) -> tuple[str, ...]:
        """(the sandbox's group, our group around it), or none where cgroups can't be used.

        A runtime may remove the sandbox's own at exit; the one around it keeps the figures until they are read.
        """
        found = request.facts.cgroups
        if found.kind == "none" or request.facts.user_namespace:
            return ()
        parent = cgroups.parent_of(request.sandbox.cgroup_parent)
        if not self._swept:
            self._swept = True
            cgroups.sweep(parent, found.folders)
        return (f"{parent}/{identity}/run", f"{parent}/{identity}")

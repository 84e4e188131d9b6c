"""A sandbox that does nothing, run to see whether a runtime works here: before anything is pulled or unpacked for it.

All of it lies on the supervisor's private tmpfs: the root file system is one program that ends at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime import launch, trampoline
from runtime.errors import RuntimeFault
from runtime.spec import NEVER, Process, Sandbox
from runtime.user import User
from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.facts import Facts
    from runtime.job import Job


def run(name: str, facts: Facts, job: Callable[[launch.Request, str], Job], other: str, *, emulator: str = "") -> None:
    """RuntimeFault with the reason if a sandbox of the runtime ``name`` can't be had. ``job`` makes its Job, given a request and
    the scratch folder; ``other``: what to try instead; ``emulator``: of the sandbox. On architectures that we can't make a program
    for, nothing is tried."""
    if not trampoline.supports(facts.architecture):
        return
    nowhere = launch.Request(Sandbox("/nonexistent"), Process(("/init",), ("PATH=/",)), User(0, 0), facts)
    scratch = launch.scratch_folder(nowhere)
    request = replace(nowhere, sandbox=Sandbox(f"{scratch}/root", emulator=emulator))
    made = job(request, scratch)
    files = {**made.files, "root/init": (trampoline.idle(facts.architecture).hex(), True)}
    made = replace(made, files=files, programs=(*made.programs, "root/init"), allow_devices=())
    said = bytearray()
    report = launch.start(made, lambda _, data: said.extend(data), NEVER)
    assert report is not None  # nobody cancels
    if report.code == 0 and not report.error:
        return
    complaint = launch.complaint_of(name, request, made, report, said.decode("utf-8", "replace"))
    reason = complaint.text if complaint is not None else f"it ends with exit code {report.code}"
    raise RuntimeFault(f"{name} does not work here: {reason}", hint=f"use --runtime {other}")

"""RUN for another platform: by the emulator that the host has registered, or by one in a user namespace of the step's own.

BuildKit runs the step as it is where it finds no emulator (solver/llbsolver/ops/exec_binfmt.go), so that a base of one platform
alone serves for all; programs of another machine end with "exec format error". Here a step whose base says that it is another
machine's is refused before anything is pulled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.errors import PybuildError
from builder.graph.ops import ImageSource, OCILayoutSource
from builder.oci.platform import Platform, host

if TYPE_CHECKING:
    from builder.graph.vertex import Vertex
    from builder.session import Session
    from builder.worker import Worker


def emulator_of(vertex: Vertex, worker: Worker, session: Session) -> str:
    """``Sandbox.emulator`` for the step. RuntimeFault with a hint if it needs one, and none can be had."""
    platform = vertex.platform
    if platform is None or host().matches(platform):
        return ""
    from runtime import emulation, foreign
    from runtime.errors import RuntimeFault

    architecture = platform.architecture
    if foreign.emulator(architecture):
        return ""
    try:
        rule = emulation.rule(architecture, emulation.find(architecture))
        worker.executor.check_emulation(rule)
    except RuntimeFault as fault:
        base = _base_platform(vertex, worker, session)
        if base is None or host().matches(base):
            return ""
        raise RuntimeFault(f"the step is for {platform}, this machine is {host()}: {fault}", hint=fault.hint) from None
    return rule


def _base_platform(vertex: Vertex, worker: Worker, session: Session) -> Platform | None:
    """What the image says that the step stands on; None for none, or if it can't be told."""
    while vertex.inputs:
        vertex = vertex.inputs[0].vertex
    op, wanted = vertex.op, vertex.platform or host()
    try:
        if isinstance(op, ImageSource):
            from builder.sources.image import resolve_config

            config = resolve_config(worker, op.ref, wanted, op.resolve_mode).config
        elif isinstance(op, OCILayoutSource):
            from builder.sources import oci_layout

            config = oci_layout.resolve_config(worker, session.oci_layouts[op.store], op.ref, wanted).config
        else:
            return None
        said = json.loads(config)
        return Platform(str(said["os"]), str(said["architecture"]), str(said.get("variant", "")))
    except (PybuildError, ValueError, LookupError, TypeError):
        return None  # whoever needs the base says what is wrong with it

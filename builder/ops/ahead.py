"""Whether the RUN steps of a build can be had on this machine, asked before work is done that only they are for.

A build that ends with "no runtime" after it has pulled a base and copied a context wastes both. But one whose RUN steps are all
cached needs no runtime, and must not fail for want of one. So a RUN names, when it is looked at, what it builds on; and what a
RUN builds on asks before it is executed. The solver looks at consumers before it executes their inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.graph.vertex import Vertex
    from builder.session import Session


def announce(vertex: Vertex, session: Session, check: Callable[[], None]) -> None:
    """``vertex`` would be executed by a runtime. ``check`` raises StepError if that can't be; it may be called often."""
    stack = [e.vertex for e in vertex.inputs]
    while stack:
        below = stack.pop()
        if below.digest not in session.runs:
            session.runs[below.digest] = check
            stack += [e.vertex for e in below.inputs]


def before_work(vertex: Vertex, session: Session) -> None:
    """To be called before ``vertex`` is executed. StepError: a step that builds on it could not be."""
    check = session.runs.get(vertex.digest)
    if check is not None:
        check()

"""The operations of the graph, each a CacheMap and an Exec. ``resolve`` gives a vertex its operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.graph.vertex import Vertex
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.solver.types import Op
    from builder.worker import Worker


def resolve(vertex: Vertex, worker: Worker, session: Session) -> Op[Ref]:
    """The operation of ``vertex``. An error of its class for a definition that makes no sense or is not granted.

    Imports are made where they are needed: a build without RUN loads nothing of sandboxes.
    """
    kind = vertex.op.kind
    if kind == "exec":
        from builder.ops.exec import ExecOp

        return ExecOp(vertex, worker, session)
    if kind == "file":
        from builder.ops.file.op import FileOp

        return FileOp(vertex, worker, session)
    if kind == "merge":
        from builder.ops.merge import MergeOp

        return MergeOp(vertex, worker, session)
    if kind == "diff":
        from builder.ops.diff import DiffOp

        return DiffOp(vertex, worker, session)
    from builder.ops.source import SourceOp

    return SourceOp(vertex, worker, session)

"""What the next instruction builds on, and how vertices are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.graph.ops import NO_INPUT, CopyAction, File, MkdirAction, MkfileAction
from builder.graph.vertex import Edge, Location, Vertex, VertexMeta
from builder.values import dataclass, field, replace

if TYPE_CHECKING:
    from builder.graph.ops import FileAction
    from builder.oci.platform import Platform
    from frontend.errors import Range


@dataclass(frozen=True, slots=True)
class State:
    """A root filesystem (None: empty) with the settings that commands on it run with (BuildKit's llb.State).

    ``env`` holds ENV and ARG alike, in the order they were last set; it is the stage's own, which writes into it.
    ``platform`` is known where an image lies below.
    """

    edge: Edge | None = None
    env: dict[str, str] = field(default_factory=dict)
    dir: str = "/"
    user: str = ""
    platform: Platform | None = None

    def on(self, edge: Edge | None) -> State:
        """The same settings on another root filesystem."""
        return replace(self, edge=edge)


def locations(ranges: Sequence[Range]) -> tuple[Location, ...]:
    """Lines of the Dockerfile; neighbours are put together."""
    found: list[Location] = []
    for item in ranges:
        if found and found[-1].end + 1 >= item.start:
            found[-1] = Location(found[-1].start, max(found[-1].end, item.end))
        else:
            found.append(Location(item.start, item.end))
    return tuple(found)


class Inputs:
    """Collects the inputs of a vertex, each edge once."""

    __slots__ = ("_places", "edges")

    def __init__(self) -> None:
        self.edges: list[Edge] = []
        self._places: dict[Edge, int] = {}

    def index(self, edge: Edge | None) -> int:
        """Number of the input, NO_INPUT for an empty root."""
        if edge is None:
            return NO_INPUT
        place = self._places.setdefault(edge, len(self.edges))
        if place == len(self.edges):
            self.edges.append(edge)
        return place


@dataclass(frozen=True, slots=True)
class SourcedCopy:
    """A copy whose indexes are not known yet, and the root it reads."""

    source: Edge | None
    action: CopyAction


def copy_edge(base: Edge | None, copies: Sequence[SourcedCopy], meta: VertexMeta) -> Edge:
    """One file vertex that does the copies one after the other on ``base``."""
    inputs = Inputs()
    first = inputs.index(base)
    secondary = [inputs.index(copy.source) for copy in copies]
    actions: list[FileAction] = []
    for number, copy in enumerate(copies):
        before = first if number == 0 else len(inputs.edges) + number - 1
        output = 0 if number == len(copies) - 1 else NO_INPUT
        actions.append(replace(copy.action, input=before, secondary=secondary[number], output=output))
    return Edge(Vertex(File(tuple(actions)), tuple(inputs.edges), meta=meta))


def mkdir_edge(base: Edge | None, action: MkdirAction, meta: VertexMeta) -> Edge:
    """A file vertex that makes one folder; input and output of ``action`` are set here."""
    inputs = Inputs()
    done = replace(action, input=inputs.index(base), output=0)
    return Edge(Vertex(File((done,)), tuple(inputs.edges), meta=meta))


def inline_file_edge(path: str, text: str, mode: int) -> Edge:
    """A root with nothing but the file that a heredoc holds."""
    data = text.encode("utf-8", "surrogateescape")
    action = MkfileAction(NO_INPUT, 0, path, data, mode)
    return Edge(Vertex(File((action,)), meta=VertexMeta(name="[internal] preparing inline document", internal=True)))

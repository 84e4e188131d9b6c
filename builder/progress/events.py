"""Progress events, after BuildKit's SolveStatus: vertices with start and end, statuses below them, logs, warnings.

A sink is any callable that takes an event; it is called from several threads and does its own locking.
"""

from __future__ import annotations

from collections.abc import Callable

from builder.oci.digest import Digest
from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class VertexKnown:
    """A vertex is part of what is solved; whether anything has to be done for it is not known yet. ``inputs``: one an edge."""

    digest: Digest
    name: str
    inputs: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class VertexStarted:
    """``time`` is time.monotonic()."""

    digest: Digest
    name: str
    time: float


@dataclass(frozen=True, slots=True)
class VertexCompleted:
    """``error`` is one line, empty for success; ``cancelled`` goes with an error that another vertex or the user caused."""

    digest: Digest
    name: str
    time: float
    cached: bool = False
    error: str = ""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """Progress of one part of a vertex (``extracting sha256:...``, ``sha256:... 3.2MB / 5.1MB``). ``total`` 0: unknown."""

    digest: Digest
    id: str
    current: int
    total: int
    time: float
    completed: bool = False


@dataclass(frozen=True, slots=True)
class Log:
    """Output of a step; ``stream`` is 1 or 2. Chunks are as they came: not lines."""

    digest: Digest
    stream: int
    data: bytes
    time: float


@dataclass(frozen=True, slots=True)
class Warned:
    """A lint or build warning; about ``lines`` of the Dockerfile ``file`` (name, text), of the vertex ``digest``, if given."""

    short: str
    detail: str = ""
    url: str = ""
    lines: tuple[tuple[int, int], ...] = ()
    file: tuple[str, bytes] | None = None
    digest: Digest | None = None


Event = VertexKnown | VertexStarted | VertexCompleted | Status | Log | Warned
Sink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A sink that shows nothing."""

"""What an edge waits for: another edge's state, or a piece of work (BuildKit: solver/internal/pipe).

Everything here is read and written by the scheduler's loop alone, so there are no locks and no copies of messages: ``news`` says
that the answering side has said something that the asking side has not looked at yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from builder.errors import CancelledError

if TYPE_CHECKING:
    from builder.solver.edge import ActiveEdge
    from builder.solver.edgestate import EdgeState, EdgeStatus

T = TypeVar("T")

Known = tuple[int, int, int, int]
"""What of an edge's state the asking side has seen: status, identity of result and cache map, number of keys."""


class EdgeRequest:
    """``origin`` (None: the caller of the build) wants ``target`` to reach the state ``desired``, or to have new keys."""

    __slots__ = (
        "cancelled",
        "completed",
        "current_keys",
        "desired",
        "error",
        "known",
        "news",
        "origin",
        "state",
        "target",
        "was_cancelled",
    )

    def __init__(self, target: ActiveEdge, origin: ActiveEdge | None, desired: EdgeStatus, known: Known) -> None:
        self.target = target
        self.origin = origin
        self.desired = desired
        self.known = known
        self.current_keys = known[3]
        self.state: EdgeState | None = None
        self.error: Exception | None = None
        self.completed = False
        self.cancelled = False
        self.was_cancelled = False
        self.news = False


class Pending:
    """A piece of work for ``origin``, whatever it will give."""

    __slots__ = ("cancelled", "completed", "error", "news", "on_cancel", "origin", "was_cancelled")

    def __init__(self, origin: ActiveEdge) -> None:
        self.origin = origin
        self.error: Exception | None = None
        self.completed = False
        self.cancelled = False
        self.was_cancelled = False
        self.news = False
        self.on_cancel: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Not wanted any more. It completes nevertheless: with CancelledError, or with what it gave in time."""
        if not self.cancelled and not self.completed:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()



class Work(Pending, Generic[T]):
    """A piece of work that gives a ``T``."""

    __slots__ = ("_value",)

    @property
    def value(self) -> T:
        """What it gave; to be asked for after it was completed without an error."""
        return self._value

    def finish(self, value: T | None, error: Exception | None) -> None:
        """``value`` counts if there is no ``error``."""
        self._value = cast("T", value)
        self.error = error
        self.completed = True
        self.was_cancelled = self.cancelled and isinstance(error, CancelledError)
        self.news = True

"""Flights: pieces of work of one vertex that are under way, and who waits for them.

Several edges may want the same of a vertex: it is done once. A flight is stopped when nobody waits for it any more, and it is
waited for: nothing goes on in the background. What comes of one that was stopped is no verdict, so whoever asked in the meantime
starts it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from builder.errors import CancelledError
from builder.state.cancel import Token, current, scope
from builder.values import dataclass, field

if TYPE_CHECKING:
    from builder.solver.requests import Work
    from builder.solver.scheduler import Scheduler
    from builder.solver.workers import Workers

T = TypeVar("T")
_TEXT = "the build was cancelled"
Again = Callable[["Work"], None]
"""Asks anew on behalf of a waiter, once the outcome is remembered."""


@dataclass(frozen=True, slots=True)
class FlightPlan(Generic[T]):
    """What a flight does. ``run`` works under the token it is given. ``remember`` is told the outcome before anybody else, unless
    the flight was stopped. ``share`` picks what is the first waiter's of it; None: that one has to ask anew.

    ``inline``: quick by contract, done in the loop instead of on a thread. ``limited``: counts for --max-parallelism.
    """

    run: Callable[[Token], T]
    remember: Callable[[T | None, Exception | None], None]
    share: Callable[[T], object] = lambda value: value
    inline: bool = False
    limited: bool = False


@dataclass(eq=False, slots=True)
class Flight(Generic[T]):
    """``late`` came when it was being stopped already: they can't save it."""

    plan: FlightPlan[T]
    waiters: list[tuple[Work, Again]]
    late: list[tuple[Work, Again]] = field(default_factory=list)
    token: Token = field(default_factory=lambda: Token(current()))


class Flights:
    """The flights of one solver. Everything here runs in the scheduler's loop, but ``FlightPlan.run``."""

    def __init__(self, scheduler: Scheduler, workers: Workers) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._flights: dict[tuple[object, str, int], Flight[object]] = {}

    def fly(self, name: tuple[object, str, int], work: Work, again: Again, plan: FlightPlan[T]) -> None:
        """Let ``work`` wait for the flight ``name`` (whose, what, which), which begins now unless it is under way."""
        flight = self._flights.get(name)
        if flight is None:
            # Flights of all types stand in one table; each is only ever handed what its own ``run`` gave.
            flight = Flight(cast("FlightPlan[object]", plan), [(work, again)])
            self._flights[name] = flight
            self._start(name, flight)
        else:
            (flight.late if flight.token.is_set() else flight.waiters).append((work, again))
        waited_for = flight
        work.on_cancel = lambda: self._leave(waited_for, work)

    def stop(self) -> None:
        """Stop all; they are waited for by ``Workers.drain``."""
        for flight in self._flights.values():
            flight.token.set()

    def _start(self, name: tuple[object, str, int], flight: Flight[object]) -> None:
        plan, token = flight.plan, flight.token

        def run() -> object:
            with scope(token):
                return plan.run(token)

        def land(value: object, error: Exception | None) -> None:
            del self._flights[name]
            self._land(flight, value, error)

        def step() -> None:
            try:
                value, error = run(), None
            except Exception as e:
                value, error = None, e
            land(value, error)

        if plan.inline:
            self._scheduler.later(step)
        else:
            self._workers.submit(run, land, limited=plan.limited)

    def _leave(self, flight: Flight[object], work: Work) -> None:
        if any(w is work for w, _ in flight.waiters) and len(flight.waiters) == 1:
            flight.token.set()  # it answers when it has stopped
            return
        flight.waiters = [entry for entry in flight.waiters if entry[0] is not work]
        flight.late = [entry for entry in flight.late if entry[0] is not work]
        self._scheduler.finish(work, None, CancelledError(_TEXT))

    def _land(self, flight: Flight[object], value: object, error: Exception | None) -> None:
        if error is not None and flight.token.is_set():
            stopped = CancelledError(_TEXT)
            for work, _ in flight.waiters:
                self._scheduler.finish(work, None, stopped)
            for work, again in flight.late:
                again(work)
            return
        flight.plan.remember(value, error)
        rest = flight.waiters + flight.late
        share = None if error is not None or value is None else flight.plan.share(value)
        if flight.waiters and (error is not None or share is not None):
            work, _ = rest.pop(0)
            self._scheduler.finish(work, share, error)
        for work, again in rest:
            again(work)

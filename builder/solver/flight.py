"""Flights: pieces of work of one vertex that are under way, and who waits for them.

Several edges may want the same of a vertex: it is done once. A flight is stopped when nobody waits for it any more, and it is
waited for: nothing goes on in the background. What comes of one that was stopped says nothing about the work, so whoever asked in
the meantime starts it anew.
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
S = TypeVar("S")
_TEXT = "the build was cancelled"
Again = Callable[["Work[S]"], None]
"""Asks anew on behalf of a waiter, once the outcome is remembered."""


def itself(value: T) -> T:
    """See ``FlightPlan.share``."""
    return value


@dataclass(frozen=True, slots=True)
class FlightPlan(Generic[T, S]):
    """What a flight does. ``run`` works under the token it is given. ``remember`` is told the outcome before anybody else, unless
    the flight was stopped. ``share`` picks what is the first waiter's of it (``itself``: all of it). None: that
    one has to ask anew.

    ``inline``: quick by contract, done in the loop instead of on a thread. ``limited``: counts for --max-parallelism.
    """

    run: Callable[[Token], T]
    remember: Callable[[T | None, Exception | None], None]
    share: Callable[[T], S | None]
    inline: bool = False
    limited: bool = False


@dataclass(eq=False, slots=True)
class Flight(Generic[T, S]):
    """``late`` have come when it was being stopped already. They do not make it go on; they start it anew afterwards."""

    plan: FlightPlan[T, S]
    waiters: list[tuple[Work[S], Again[S]]]
    late: list[tuple[Work[S], Again[S]]] = field(default_factory=list)
    token: Token = field(default_factory=lambda: Token(current()))


class Flights:
    """The flights of one solver. Everything here runs in the scheduler's loop, but ``FlightPlan.run``."""

    def __init__(self, scheduler: Scheduler, workers: Workers) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._flights: dict[tuple[object, str, int], Flight[object, object]] = {}

    def fly(self, name: tuple[object, str, int], work: Work[S], again: Again[S], plan: FlightPlan[T, S]) -> None:
        """Let ``work`` wait for the flight ``name`` (whose, what, which), which begins now unless it is under way."""
        waiter = cast("tuple[Work[object], Again[object]]", (work, again))
        flight = self._flights.get(name)
        if flight is None:
            # Flights of all types stand in one table; each is only ever handed what its own ``run`` gave.
            flight = Flight(cast("FlightPlan[object, object]", plan), [waiter])
            self._flights[name] = flight
            self._start(name, flight)
        else:
            (flight.late if flight.token.is_set() else flight.waiters).append(waiter)
        waited_for = flight
        work.on_cancel = lambda: self._leave(waited_for, work)

    def stop(self) -> None:
        """Stop all; they are waited for by ``Workers.drain``."""
        for flight in self._flights.values():
            flight.token.set()

    def _start(self, name: tuple[object, str, int], flight: Flight[object, object]) -> None:
        plan, token = flight.plan, flight.token

        def run() -> object:
            with scope(token):
                return plan.run(token)

        def land(value: object, error: Exception | None) -> None:
            del self._flights[name]
            self._land(flight, value, error)

        def step() -> None:
            value: object = None
            error: Exception | None = None
            try:
                value = run()
            except Exception as e:
                error = e
            land(value, error)

        if plan.inline:
            self._scheduler.later(step)
        else:
            self._workers.submit(run, land, limited=plan.limited)

    def _leave(self, flight: Flight[object, object], work: Work[S]) -> None:
        if any(w is work for w, _ in flight.waiters) and len(flight.waiters) == 1:
            flight.token.set()  # it answers when it has stopped
            return
        flight.waiters = [entry for entry in flight.waiters if entry[0] is not work]
        flight.late = [entry for entry in flight.late if entry[0] is not work]
        self._scheduler.finish(work, None, CancelledError(_TEXT))

    def _land(self, flight: Flight[object, object], value: object, error: Exception | None) -> None:
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

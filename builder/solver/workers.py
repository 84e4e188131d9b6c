"""The solver's threads: started when there is work, kept for the next, told apart by whether they count for --max-parallelism."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from builder.state.cancel import LOOK_UP_SECONDS

Task = Callable[[], object]
Done = Callable[[object, Exception | None], None]
_Outcome = tuple[Done, object, "Exception | None", bool]


class Workers:
    """``submit``, ``wait`` and ``close`` belong to one thread, the solver's loop; only tasks run elsewhere.

    ``done`` callbacks run in ``wait``, so in the loop. ``parallelism`` bounds the tasks that are submitted with ``limited``; None
    is no bound.
    """

    def __init__(self, parallelism: int | None = None) -> None:
        self._parallelism = parallelism
        self._limited_running = 0
        self._waiting: deque[tuple[Task, Done]] = deque()
        self._tasks: SimpleQueue[tuple[Task, Done, bool] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[_Outcome | None] = SimpleQueue()
        self._threads = 0
        self._idle = 0
        self.outstanding = 0
        """Tasks that have not come back through ``wait``."""

    def submit(self, task: Task, done: Done, *, limited: bool = False) -> None:
        self.outstanding += 1
        if limited and self._parallelism and self._limited_running >= self._parallelism:
            self._waiting.append((task, done))
            return
        self._start(task, done, limited)

    def _start(self, task: Task, done: Done, limited: bool) -> None:
        self._limited_running += limited
        if self._idle:
            self._idle -= 1
        else:
            self._threads += 1
            threading.Thread(target=self._run, name=f"solver-{self._threads}", daemon=True).start()
        self._tasks.put((task, done, limited))

    def _run(self) -> None:
        while (job := self._tasks.get()) is not None:
            task, done, limited = job
            value: object = None
            error: Exception | None = None
            try:
                value = task()
            except Exception as e:
                error = e
            except BaseException as e:
                error = RuntimeError(f"{type(e).__name__} in a step: {e}")
            self._outcomes.put((done, value, error, limited))
            del job, task, done, value, error

    def ready(self) -> bool:
        """Would ``wait`` return at once?"""
        return not self._outcomes.empty()

    def wait(self) -> None:
        """Wait for one task (or a ``wake``) and call its ``done``. KeyboardInterrupt comes through."""
        outcome = self._next()
        if outcome is None:
            return
        done, value, error, limited = outcome
        self.outstanding -= 1
        self._idle += 1
        if limited:
            self._limited_running -= 1
            if self._waiting:
                self._start(*self._waiting.popleft(), True)
        done(value, error)

    def drain(self) -> None:
        """Wait until no task runs any more; those that wait for their turn are dropped, and no ``done`` is called."""
        self.outstanding -= len(self._waiting)
        self._waiting.clear()
        while self.outstanding:
            if self._next() is not None:
                self.outstanding -= 1
        self._limited_running = 0

    def _next(self) -> _Outcome | None:
        while True:
            try:
                return self._outcomes.get(timeout=LOOK_UP_SECONDS)
            except Empty:
                continue

    def wake(self) -> None:
        """Make ``wait`` return; from any thread."""
        self._outcomes.put(None)

    def close(self) -> None:
        """End the threads. Tasks that run are not waited for."""
        for _ in range(self._threads):
            self._tasks.put(None)
        self._threads = self._idle = 0

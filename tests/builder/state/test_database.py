"""Connections of many threads: never closed under a thread that works with one, and not kept for threads that ended."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from builder.state.database import Database
from builder.state.schema import COUNTS


def test_closing_waits_for_no_statement_of_another_thread_and_breaks_none(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "db"))
    running, closed = threading.Event(), threading.Event()
    answers: list[object] = []

    def pause() -> int:
        running.set()
        return int(closed.wait(30))

    def work() -> None:
        connection = database.connection()
        connection.create_function("pause", 0, pause)
        answers.append(connection.execute("SELECT pause()").fetchone())
        answers.append(connection.execute("SELECT count(*) FROM images").fetchone())

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(30)
    database.close()
    closed.set()
    thread.join(30)
    assert answers == [(1,), (0,)]


def test_connections_of_ended_threads_are_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    database = Database(path)

    def files() -> int:
        opened = (os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
        return sum(os.readlink(fd) == path for fd in opened if os.path.lexists(fd))

    for _ in range(40):
        thread = threading.Thread(target=database.connection)
        thread.start()
        thread.join()
    assert files() < 20
    database.close()
    assert files() == 0


def test_a_forked_child_has_a_connection_of_its_own(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "db"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with database.transaction() as c:
                database.put(c, COUNTS, [("seven", 7)])
            database.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert database.select(COUNTS) == [("seven", 7)]
    database.close()

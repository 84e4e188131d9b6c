"""background: everything arrives in order, errors of either side end both, small streams stay in the caller's thread."""

from __future__ import annotations

import threading

import pytest

from builder.errors import CancelledError
from builder.state.cancel import Token, scope
from builder.state.threads import background

BIG = bytes(1 << 20)


def test_all_arrives_in_order_before_the_block_is_left() -> None:
    got: list[bytes] = []
    with background(got.append) as write:
        for number in range(20):
            write(b"%d" % number)
            write(BIG)
    assert got == [part for number in range(20) for part in (b"%d" % number, BIG)]


def test_small_streams_start_no_thread() -> None:
    names: set[str] = set()
    with background(lambda data: names.add(threading.current_thread().name)) as write:
        for _ in range(100):
            write(b"x")
    assert names == {threading.current_thread().name}


def test_big_buffers_are_written_elsewhere() -> None:
    names: set[str] = set()
    with background(lambda data: names.add(threading.current_thread().name)) as write:
        write(BIG)
    assert names == {"background-write"}


def test_an_error_of_the_writer_reaches_the_caller() -> None:
    def fail(data: bytes) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), background(fail) as write:
        for _ in range(1000):
            write(BIG)
    with pytest.raises(OSError, match="full"), background(fail) as write:
        write(BIG)


def test_after_an_error_of_the_caller_nothing_is_written_any_more() -> None:
    before = threading.active_count()
    got: list[bytes] = []
    with pytest.raises(KeyError), background(got.append) as write:
        write(BIG)
        raise KeyError
    seen = len(got)
    assert threading.active_count() == before
    assert len(got) == seen


def test_what_waits_is_not_written_once_the_work_was_called_off() -> None:
    """Compressing what waits could take seconds."""
    token = Token()
    got: list[bytes] = []

    def write(data: bytes) -> None:
        got.append(data)
        token.set()

    with scope(token), pytest.raises(CancelledError), background(write) as send:
        for _ in range(100):
            send(bytes(1 << 20))
    assert len(got) == 1

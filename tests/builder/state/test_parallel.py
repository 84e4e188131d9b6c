"""Threads for layers."""

from __future__ import annotations

import threading

import pytest

from builder.state.threads import ahead, run


def test_all_jobs_are_done():
    done: list[int] = []
    run([lambda n=n: done.append(n) for n in range(20)])
    assert sorted(done) == list(range(20))


def test_jobs_run_at_the_same_time():
    barrier = threading.Barrier(3, timeout=10)
    run([barrier.wait] * 3, threads=3)


def test_after_a_failure_no_job_begins_and_the_first_error_is_raised():
    done: list[int] = []

    def fail():
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run([fail, *[lambda n=n: done.append(n) for n in range(1000)]], threads=1)
    assert done == []


def test_chunks_come_in_order():
    with ahead(iter([b"1", b"2", b"3"] * 50)) as chunks:
        assert b"".join(chunks) == b"123" * 50


def test_an_error_comes_where_its_chunk_would():
    def source():
        yield b"1"
        raise OSError("broken")

    with ahead(source()) as chunks:
        assert next(chunks) == b"1"
        with pytest.raises(OSError, match="broken"):
            next(chunks)


def test_a_reader_that_stops_early_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    with pytest.raises(RuntimeError), ahead(source()) as chunks:
        next(chunks)
        raise RuntimeError
    assert closed.is_set()
    assert not any(t.name == "layer-reader" for t in threading.enumerate())

"""Work that is called off stops at once, wherever it waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from builder.errors import CancelledError
from builder.state import cancel, locks
from builder.state.cancel import Token, checkpoint, scope


def ended(work: Callable[[], object], token: Token) -> BaseException | None:
    """Start ``work`` under the token, call it off once it waits, and give what it ended with."""
    out: list[BaseException | None] = []
    begun = threading.Event()

    def run() -> None:
        with scope(token):
            begun.set()
            try:
                work()
            except BaseException as e:
                out.append(e)
            else:
                out.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    token.set()
    thread.join(30)
    assert not thread.is_alive(), "the work went on"
    return out[0]


def test_outside_of_a_scope_nothing_is_called_off() -> None:
    checkpoint()
    assert not cancel.current().is_set()


def test_a_checkpoint_raises_once_the_token_is_set() -> None:
    token = Token()
    with scope(token):
        checkpoint()
        token.set()
        with pytest.raises(CancelledError):
            checkpoint()
    checkpoint()


def test_a_child_is_set_with_its_parent_and_not_the_other_way_round() -> None:
    parent = Token()
    child, sibling = Token(parent), Token(parent)
    child.set()
    assert not parent.is_set()
    assert not sibling.is_set()
    parent.set()
    assert sibling.is_set()
    assert Token(parent).is_set(), "a child of a set token is set from its birth"


def test_the_descriptor_is_readable_whether_it_was_asked_for_before_or_after() -> None:
    before, after = Token(), Token()
    before.fileno()
    for token in (before, after):
        assert not token.wait(0)
        token.set()
        assert token.wait(0)
        assert cancel._poll([(token.fileno(), True)], 0) == [token.fileno()]


def test_a_token_gives_its_descriptor_back() -> None:
    token = Token()
    fd = token.fileno()
    del token
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("work", ["sleep", "readable", "writable"])
def test_waiting_ends(work: str) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(4096))
    except BlockingIOError:
        pass
    idle = os.pipe()
    waits: dict[str, Callable[[], object]] = {
        "sleep": lambda: cancel.sleep(3600),
        "readable": lambda: cancel.readable(idle[0]),
        "writable": lambda: cancel.writable(write),
    }
    try:
        assert isinstance(ended(waits[work], Token()), CancelledError)
    finally:
        for fd in (read, write, *idle):
            os.close(fd)


def test_a_descriptor_that_is_ready_does_not_wait() -> None:
    read, write = os.pipe()
    try:
        assert not cancel.readable(read, 0)
        os.write(write, b"x")
        with scope(Token()):
            assert cancel.readable(read, 3600)
            assert cancel.writable(write, 3600)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("kind", ["locked", "named"])
def test_waiting_for_a_lock_ends(kind: str, tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "lock")
    held = locks.try_lock(path)
    assert held is not None

    def wait() -> None:
        with locks.locked(path) if kind == "locked" else locks.named_lock(str(tmp_path), "lock"):
            pass

    assert isinstance(ended(wait, Token()), CancelledError)
    os.close(held)
    wait()


def test_a_named_lock_leaves_no_file_and_says_if_it_was_waited_for(tmp_path: object) -> None:
    folder = str(tmp_path)
    with locks.named_lock(folder, "a") as waited:
        assert not waited
        assert os.listdir(folder) == ["a"]
        got: list[bool] = []
        tried = threading.Event()
        real = locks.try_lock

        def counting(path: str, *, shared: bool = False) -> int | None:
            fd = real(path, shared=shared)
            tried.set()
            return fd

        def other() -> None:
            with locks.named_lock(folder, "a") as late:
                got.append(late)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(locks, "try_lock", counting)
            thread = threading.Thread(target=other)
            thread.start()
            assert tried.wait(30)
    thread.join(30)
    assert got == [True]
    assert os.listdir(folder) == []


def test_files_of_dead_holders_are_swept_and_those_of_living_ones_are_not(tmp_path: object) -> None:
    folder = str(tmp_path)
    for name in ("record-dead", "collect"):
        open(os.path.join(folder, name), "w").close()
    with locks.named_lock(folder, "record-held"):
        locks.sweep(folder, ("record-",))
        assert sorted(os.listdir(folder)) == ["collect", "record-held"]
    assert os.listdir(folder) == ["collect"]


def test_two_never_hold_one_named_lock(tmp_path: object) -> None:
    folder, inside, most = str(tmp_path), [0], [0]

    def work() -> None:
        for _ in range(50):
            with locks.named_lock(folder, "x"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]

"""SIGTERM and SIGHUP end a command as Ctrl-C does, once, and only where nobody else has a say in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import builder
from builder.cli import signals
from builder.cli.signals import Signals


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "_PATIENCE_SECONDS", 3600.0)  # the watchdog would end the test's process
        yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_exit_code_tells_the_signal(number: signal.Signals) -> None:
    with Signals() as found:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert found.exit_code(130) == 128 + number
        assert found.exit_code(1) == 128 + number, "a step that the token ended fails as any other"
        assert found.exit_code(0) == 0
    assert signal.getsignal(number) is signal.SIG_DFL


def test_without_a_signal_codes_are_as_they_are() -> None:
    with Signals() as found:
        assert [found.exit_code(code) for code in (0, 1, 130)] == [0, 1, 130]


def test_the_first_one_calls_the_work_off_and_further_ones_do_not_interrupt_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(signals.os, "_exit", left.append)
    with Signals() as found:
        assert not found.token.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert found.token.is_set()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
    assert left == []


def test_a_second_ctrl_c_of_somebody_who_has_waited_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, left = 1000.0, []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    monkeypatch.setattr(signals.os, "_exit", left.append)
    with Signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        now += 1
        signal.raise_signal(signal.SIGINT)
    assert left == [130]


def test_a_clean_up_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    gone = threading.Event()
    monkeypatch.setattr(signals.os, "_exit", lambda code: (left.append(code), gone.set()))
    monkeypatch.setattr(signals, "_PATIENCE_SECONDS", 0.0)
    with Signals(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert gone.wait(30)
    assert left == [143]


def test_what_the_caller_ignores_or_handles_is_left_alone() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with Signals() as found:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        assert found.exit_code(130) == 130
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_in_a_thread_nothing_is_installed() -> None:
    done: list[int] = []

    def run() -> None:
        with Signals() as found:
            done.append(found.exit_code(130))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [130]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_dead_terminal_is_left_and_anything_else_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full stands in for it: a character device, no terminal (any more), and writing to it is an error."""
    read, write = os.pipe()
    out, err = os.dup(1), os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        os.dup2(full, 1)
        os.dup2(write, 2)
        signals._leave_dead_terminals()
        os.write(1, b"lost")
        os.write(2, b"told")
    finally:
        os.dup2(out, 1)
        os.dup2(err, 2)
        for fd in (out, err, full, write):
            os.close(fd)
    assert os.read(read, 10) == b"told"
    os.close(read)


def test_a_signal_before_the_command_has_begun_ends_it_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler is there before the first line that could be interrupted in order."""
    from builder.cli import main

    monkeypatch.setattr(main, "_ended", lambda args, recover: signal.raise_signal(signal.SIGTERM))
    assert main.main(["images"]) == 143


def test_a_signal_while_python_makes_a_dataclass_ends_with_its_own_code_too(tmp_path: Path) -> None:
    """Dataclasses are made by exec() of a string. A KeyboardInterrupt out of one counts as unhandled for CPython, which then ends
    ``python -m`` by SIGINT."""
    (tmp_path / "signalled.py").write_text(
        "import sys; from builder.cli import main\n"
        "main._run = lambda args: exec('import os, signal; os.kill(os.getpid(), signal.SIGTERM); os.getpid()')\n"
        "sys.exit(main.main(['du']))"
    )
    path = os.pathsep.join([str(tmp_path), os.path.dirname(os.path.dirname(builder.__file__))])
    found = subprocess.run(
        [sys.executable, "-m", "signalled"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert (found.returncode, found.stderr) == (128 + signal.SIGTERM, "ERROR: canceled\n")

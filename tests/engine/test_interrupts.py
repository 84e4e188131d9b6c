"""SIGINT, SIGTERM and SIGHUP at random instants of every phase: the command ends, the store is valid, nothing is left.

``PYBUILD_INTERRUPTS`` says how many instants a phase gets (2). Each prints how long the end took; the bound is only what a hang
would exceed, since a busy machine must not fail the test.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from builder.state.locks import named_lock
from tests.engine.stores import nothing_lives
from tests.support.cli import Pybuild
from tests.support.registries import LayoutRegistry

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
INSTANTS = int(os.environ.get("PYBUILD_INTERRUPTS", "2"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HUNG = 60.0
LONGEST = 1.5
"""Seconds from the start of the process within which the signal comes."""


class StallingRegistry(LayoutRegistry):
    """Every layer stops after its first half, for ever."""

    def before_body(self, digest: str, handler: BaseHTTPRequestHandler, data: bytes) -> bytes:
        if digest in self.layers:
            handler.wfile.write(data[: len(data) // 2])
            handler.wfile.flush()
            while not getattr(handler.connection, "_closed", False) and handler.connection.recv(1):
                pass
            return b""
        return data


def files(count: int) -> dict[str, str | bytes]:
    return {f"tree/{n // 100}/{n}": f"{n}\n" * 20 for n in range(count)}


PHASES = {
    "run": "FROM {base}\nRUN trap '' TERM INT HUP; sleep 3600\n",
    "many small runs": "FROM {base}\n" + "".join(f"RUN echo {n} > /{n}\n" for n in range(40)),
    "copy": "FROM {base}\nCOPY tree /tree\nCOPY tree /again\n",
    "export": "FROM {base}\nRUN head -c 60000000 /dev/urandom > /noise\nRUN cp /noise /twice\n",
    "flood": "FROM {base}\nRUN yes\n",
}
OUTPUTS = {"export": ["-o", "type=oci,dest={tmp}/out.tar,compression=gzip,compression-level=9"]}


def ended(pybuild: Pybuild, number: int, delay: float, *args: str) -> float:
    """Start a build, send the signal after ``delay`` seconds; gives the seconds that the end took, or 0 where it had ended before.

    Death by the very signal is fine as well: Python dies so where the signal comes before our code does. So is the failure of
    Python's own start, which a SIGINT interrupts there.
    """
    with tempfile.TemporaryFile() as said:
        process = pybuild.start(*args, stderr=said.fileno())
        # A random instant is the subject here, not a means of waiting.
        time.sleep(delay)
        begun = time.monotonic()
        process.send_signal(number)
        code = process.wait(HUNG)
        took = time.monotonic() - begun
        said.seek(0)
        text = said.read().decode(errors="replace")
    early = number == signal.SIGINT and code == 1 and "Fatal Python error: init_import_site" in text
    assert early or code in (0, 128 + number, -number), f"signal {number} after {delay:.2f} s: exit code {code}\n{text[-3000:]}"
    return took if code else 0.0


@contextmanager
def told(phase: str, seed: int) -> Iterator[list[float]]:
    took: list[float] = []
    try:
        yield took
    finally:
        worst = " ".join(f"{t:.2f}" for t in sorted(took))
        print(f"\n{phase}: seconds to the end: {worst} (seed {seed})")


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("PYBUILD_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_at_a_random_instant_ends_the_build(
    phase: str, pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path, seed: int
) -> None:
    choose = random.Random(seed)
    folder = context({"Dockerfile": PHASES[phase].format(base=busybox), **(files(3000) if phase == "copy" else {})})
    outputs = [o.format(tmp=tmp_path) for o in OUTPUTS.get(phase, [])]
    with told(phase, seed) as took:
        for _ in range(INSTANTS):
            took.append(ended(pybuild, choose.choice(SIGNALS), choose.uniform(0.05, LONGEST), "--no-cache", *outputs, folder))
            pybuild.fsck()
            nothing_lives(pybuild.root, f"{phase}, seed {seed}")
    assert not [name for name in os.listdir(tmp_path) if "out.tar" in name], "a half-written output was left"


def test_a_stalled_download_ends_and_goes_on_later(pybuild: Pybuild, context: Context, busybox_layout: str, seed: int) -> None:
    choose = random.Random(seed)
    with StallingRegistry(busybox_layout) as stalling, told("pull", seed) as took:
        folder = context({"Dockerfile": f"FROM {stalling.host}/library/busybox:1\nRUN true\n"})
        for _ in range(INSTANTS):
            took.append(ended(pybuild, choose.choice(SIGNALS), choose.uniform(0.05, LONGEST), folder))
            pybuild.fsck()
        nothing_lives(pybuild.root, f"pull, seed {seed}")


def test_waiting_for_the_step_of_another_process_ends(pybuild: Pybuild, context: Context, busybox: str, seed: int) -> None:
    choose = random.Random(seed)
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN --mount=type=cache,target=/c,sharing=locked sleep 3600\n"})
    holder = pybuild.start(folder)
    try:
        with told("waiting for another process", seed) as took:
            for _ in range(INSTANTS):
                took.append(ended(pybuild, choose.choice(SIGNALS), choose.uniform(0.3, LONGEST), folder))
    finally:
        holder.send_signal(signal.SIGTERM)
        assert holder.wait(HUNG) == 143
    pybuild.fsck()
    nothing_lives(pybuild.root, f"waiting, seed {seed}")
    with named_lock(os.path.join(pybuild.root, "locks"), "step-of-nobody") as waited:
        assert not waited

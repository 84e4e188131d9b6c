"""kill -9 at random instants, several processes at once on one root: the store stays valid, and nothing is left.

``PYBUILD_KILLS`` says how many kills (15); ``PYBUILD_SEED`` makes a run's choices again, as far as timing lets.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.stores import leftovers, nothing_lives
from tests.support.cli import Pybuild
from tests.support.oci import read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
KILLS = int(os.environ.get("PYBUILD_KILLS", "15"))
AT_ONCE = 3
LONGEST = 1.6
"""Seconds: somewhat longer than a build of the Dockerfile below takes alone."""

DOCKERFILE = """FROM {base} AS tool
ARG ROUND
RUN echo $ROUND > /made; head -c 300000 /dev/urandom > /noise
FROM {base} AS app
WORKDIR /srv
COPY files/ ./
COPY --link --from=tool /made /srv/linked/
RUN --mount=type=cache,target=/c --mount=type=bind,from=tool,source=/made,target=/m cat /m >> /c/all; cp /m two; rm files/3
ARG WHO
RUN echo $WHO > who; ln who files/who; mkdir -p deep/er; mv files deep/er/
FROM app
COPY --from=tool /noise /noise
"""


def commands(base_folder: str, out: str, choose: random.Random, round_number: int) -> list[list[str]]:
    """What a round starts: builds that have much in common, now and then something that looks at or cleans the store."""
    builds = []
    for who in range(AT_ONCE):
        more = choose.choice([["-t", f"app{who}"], ["-o", f"type=oci,dest={out}/{who}.tar"], ["--target", "app"], ["--no-cache"]])
        builds.append(["--build-arg", f"ROUND={round_number // 2}", "--build-arg", f"WHO={who % 2}", *more, base_folder])
    if choose.random() < 0.4:
        some = ["--filter", "type==regular"]
        builds[0] = choose.choice([["prune", "-f"], ["prune", "-f", "-a"], ["prune", "-f", *some], ["rmi", "app1"], ["du"]])
    return builds


def kill_at_random(processes: list[subprocess.Popen[bytes]], choose: random.Random) -> int:
    """Each gets a SIGKILL after a time of its own, if it still runs then; gives how many were killed."""
    killed = []

    def one(process: subprocess.Popen[bytes], delay: float) -> None:
        # A random instant is the subject here, not a means of waiting.
        time.sleep(delay)
        if process.poll() is None:
            process.kill()
        if process.wait() == -signal.SIGKILL:
            killed.append(process.pid)

    threads = [threading.Thread(target=one, args=(p, choose.uniform(0.05, LONGEST))) for p in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(killed)


def test_kills_at_random_instants_leave_a_valid_store(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("PYBUILD_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
    choose = random.Random(seed)
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), **{f"files/files/{n}": f"{n}\n" * 1000 for n in range(40)}})
    kills = rounds = 0
    while kills < KILLS:  # a round starts AT_ONCE processes
        processes = [pybuild.start(*command) for command in commands(folder, str(tmp_path), choose, rounds)]
        kills += kill_at_random(processes, choose)
        rounds += 1
        done = pybuild("fsck", "--verify")
        assert done.code == 0, f"seed {seed}, round {rounds}: fsck found\n{done.out}{done.err}"
        nothing_lives(pybuild.root, f"seed {seed}, round {rounds}")

    pybuild.ok("--build-arg", "ROUND=last", "-o", f"type=oci,dest={tmp_path}/last.tar", folder)
    assert read_image(tmp_path / "last.tar").files()["srv/two"].text == "last\n"
    pybuild.fsck()
    print(f"\n{kills} kills in {rounds} rounds, seed {seed}")

    for name in {line.split()[0] for line in pybuild.ok("images").out.splitlines()[1:] if line}:
        pybuild.ok("rmi", name)
    pybuild.ok("prune", "--all", "--force")
    pybuild.fsck()
    assert leftovers(pybuild.root) == []

"""``pybuild`` as a user runs it: a process of its own, on a state root of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from builder.values import dataclass, field

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE = 150.0
"""Seconds that one command may take before it counts as hung."""

_ENDING = re.compile(r"CACHED|CANCELED|DONE \d+\.\d+s|ERROR: .*")
_PROGRESS = re.compile(r"#(\d+) (.*)")


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    def steps(self) -> dict[str, str]:
        """Vertex name -> how it ended (``CACHED``, ``DONE 0.1s``...), from plain progress."""
        names: dict[str, str] = {}
        endings: dict[str, str] = {}
        for line in self.err.splitlines():
            match = _PROGRESS.fullmatch(line)
            if match is None:
                continue
            index, text = match.groups()
            if index not in names:
                names[index] = text
            elif _ENDING.fullmatch(text):
                endings[names[index]] = text
        return endings

    def ending(self, part: str) -> str:
        """How the one vertex ended whose name contains ``part``."""
        found = [ending for name, ending in self.steps().items() if part in name]
        assert len(found) == 1, f"{part!r} names {len(found)} steps in:\n{self.err}"
        return found[0]

    def instructions(self) -> dict[str, str]:
        """The steps of the Dockerfile alone: those named ``[stage n/m] ...``."""
        return {name: ending for name, ending in self.steps().items() if re.match(r"\[.*\d+/\d+\] ", name)}

    def not_cached(self) -> dict[str, str]:
        """The steps of the Dockerfile that did not come from the cache. Without FROM: an image whose digest is known has nothing
        to do, which BuildKit shows as DONE where every later step is cached."""
        return {name: ending for name, ending in self.instructions().items() if ending != "CACHED" and "] FROM " not in name}


@dataclass(frozen=True)
class Pybuild:
    """Runs commands with ``root`` as state folder; nothing of the caller's docker or pybuild settings gets through."""

    root: str
    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *args: str,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        input: str | bytes = b"",
    ) -> Done:
        """Run to the end, whatever the exit code. ``env`` adds to the environment, None takes a variable away."""
        data = input.encode() if isinstance(input, str) else input
        command = self.command(*args)
        done = subprocess.run(
            command, cwd=cwd, env=self.environment(env), input=data, capture_output=True, timeout=DEADLINE, check=False
        )
        return Done(tuple(args), done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(
        self,
        *args: str,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        input: str | bytes = b"",
    ) -> Done:
        """Run; it has to succeed."""
        done = self(*args, cwd=cwd, env=env, input=input)
        assert done.code == 0, f"pybuild {' '.join(args)} gave {done.code}:\n{done.err}\n{done.out}"
        return done

    def start(
        self,
        *args: str,
        env: Mapping[str, str | None] | None = None,
        stderr: IO[bytes] | int = subprocess.DEVNULL,
        before: Callable[[], object] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start and come back at once; in a session of its own, so that signals reach what the test names and nothing else.

        ``before`` is called in the new process before it becomes pybuild.
        """
        return subprocess.Popen(
            self.command(*args),
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=before,
        )

    def command(self, *args: str) -> Sequence[str]:
        return [sys.executable, "-m", "builder", *args]

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        strange = ("PYBUILD_", "BUILDKIT_", "DOCKER_", "SOURCE_DATE_EPOCH")
        base = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
        # HOME holds no docker credentials; the package is found from any working folder.
        base |= {"PYBUILD_ROOT": self.root, "HOME": os.path.dirname(self.root), "PYTHONPATH": REPOSITORY, **self.env}
        for key, value in (changes or {}).items():
            if value is None:
                base.pop(key, None)
            else:
                base[key] = value
        return base

    def fsck(self) -> None:
        """The state folder has to be without fault."""
        done = self("fsck", "--verify")
        assert done.code == 0, f"fsck found:\n{done.out}{done.err}"


@dataclass(frozen=True)
class Watched(Pybuild):
    """pybuild under tests/support/watched.py; ``log`` is where it tells what it did."""

    log: str = ""

    def command(self, *args: str) -> list[str]:
        return [sys.executable, os.path.join(REPOSITORY, "tests", "support", "watched.py"), self.log, *args]

    def did(self) -> list[str]:
        with open(self.log, encoding="utf-8") as f:
            return f.read().splitlines()


def assert_refused(done: Done, *causes: str, code: int | None = 1) -> None:
    """The command failed as a user should see it: exit code, an ERROR line, each of ``causes`` named, no traceback."""
    assert done.code != 0, f"pybuild {' '.join(done.args)} succeeded:\n{done.err}"
    if code is not None:
        assert done.code == code, f"exit code {done.code}:\n{done.err}"
    assert "Traceback" not in done.err, done.err
    assert "internal error" not in done.err, done.err
    assert re.search(r"^ERROR: \S", done.err, re.MULTILINE), done.err
    for cause in causes:
        assert cause in done.err, f"{cause!r} is not in:\n{done.err}"

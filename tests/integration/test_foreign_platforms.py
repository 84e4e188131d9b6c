"""RUN for another platform."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime import foreign
from tests.support.cli import Pybuild, assert_refused

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
# The file header of a program for s390x, and nothing behind it.
PROGRAM = b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16" + bytes(100)


@pytest.mark.skipif(bool(foreign.emulator("s390x")), reason="this machine has an emulator: it is what complains here")
def test_a_program_that_needs_an_emulator_says_what_to_install(pybuild: Pybuild, context: Context) -> None:
    folder = context({"Dockerfile": 'FROM scratch\nCOPY --chmod=755 x /x\nRUN ["/x"]\n', "x": PROGRAM})
    done = pybuild("--platform=linux/s390x", folder)
    assert_refused(done, "exec format error")
    assert "the step is for linux/s390x, this machine is linux/" in done.err
    assert "apt install qemu-user-static" in done.err
    here = pybuild(folder)
    assert "qemu" not in here.err, "a broken program of this platform needs no emulator"


def test_a_step_for_another_platform_may_run_programs_of_this_one(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox} AS b\nFROM scratch\nCOPY --from=b / /\nRUN true\n"})
    pybuild.ok("--platform=linux/s390x", folder)

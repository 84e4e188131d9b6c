"""The source of a mount while somebody swaps folders for links in it: another step that has the same cache folder mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import StepError
from builder.graph.ops import Exec
from builder.ops.mounts import PreparedMounts
from builder.session import Session
from runtime.linux import safepath

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]

# renameat2(RENAME_EXCHANGE) of two names as fast as it goes, until standard input ends. "ready" once it has begun.
FLIPPER = """
import ctypes, os, select, sys
os.chdir(sys.argv[1])
call = ctypes.CDLL(None, use_errno=True).renameat2
call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    for _ in range(500):
        if call(-100, b"sub", -100, b"other", 2):
            sys.exit(os.strerror(ctypes.get_errno()))
"""


@pytest.fixture
def cache(tmp_path: Any) -> Iterator[str]:
    """A folder in which "sub" is now a folder, now a link to a folder of the host that has the same files."""
    folder = f"{tmp_path}/cache"
    for place in (f"{folder}/sub/deep", f"{tmp_path}/host/deep"):
        os.makedirs(place)
    open(f"{folder}/sub/deep/inside", "w").close()
    open(f"{tmp_path}/host/deep/outside", "w").close()
    os.symlink(f"{tmp_path}/host", f"{folder}/other")
    flipper = subprocess.Popen([sys.executable, "-c", FLIPPER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert flipper.stdin is not None
    assert flipper.stdout is not None
    assert flipper.stdout.readline() == "ready\n"
    yield folder
    flipper.stdin.close()
    assert flipper.wait(60) == 0
    flipper.stdout.close()


@pytest.mark.parametrize(("selector", "deep"), [("sub/deep", ""), ("/sub", "deep"), ("sub/../sub/deep", "")])
@pytest.mark.parametrize("kernel", ["openat2", "older"])
def test_a_link_that_is_swapped_in_never_leads_out(
    tmp_path: Any, cache: str, selector: str, deep: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2024-23651. Every mount shows the folder inside, or there is none: an absolute link leads nowhere in there."""
    monkeypatch.setattr(safepath, "_have_openat2", kernel == "openat2")
    os.mkdir(f"{tmp_path}/tmp")
    worker: Any = SimpleNamespace(layout=SimpleNamespace(tmp=f"{tmp_path}/tmp"), may_mount=True, keeps_owners=False)
    shown: dict[str, int] = {"inside": 0, "refused": 0}
    rounds = 0
    while rounds < 20 or (min(shown.values()) == 0 and rounds < 2000):  # until the race was won
        rounds += 1
        with ExitStack() as stack:
            mounts = stack.enter_context(PreparedMounts(Exec(("x",)), worker, Session(), ()))
            for _ in range(50):
                try:
                    target, is_file = mounts._select(cache, selector)
                except StepError:
                    shown["refused"] += 1
                    continue
                (name,) = os.listdir(os.path.join(target, deep))
                assert not is_file
                shown[name] = shown.get(name, 0) + 1
    assert shown.keys() == {"inside", "refused"}, shown
    assert min(shown.values()) > 0, "nothing was swapped meanwhile"

"""Archives and terminals don't go together; that is the command line's to say, before anything is opened."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-"], "nothing to read: standard input is a terminal"),
        (["-f", "-", "."], "nothing to read: standard input is a terminal"),
        (["--check", "-"], "nothing to read: standard input is a terminal"),
        (["-o", "type=tar", "."], "dest is required for tar output: refusing to write an archive to a terminal"),
        (["-o", "-", "."], "dest is required for tar output: refusing to write an archive to a terminal"),
        (["-o", "type=oci,dest=-", "."], "dest is required for oci output: refusing to write an archive to a terminal"),
        (["save", "app"], "dest is required for docker output: refusing to write an archive to a terminal"),
    ],
)
def test_refused_before_a_state_folder_is_made(tmp_path: Path, words: list[str], said: str) -> None:
    outer, inner = pty.openpty()
    try:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": REPOSITORY, "PYBUILD_ROOT": str(tmp_path / "root"), "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "builder", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, stdin=inner, stdout=inner, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(inner)
        os.close(outer)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "root").exists()

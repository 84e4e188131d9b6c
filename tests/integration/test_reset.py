"""``pybuild reset`` and ``unshare``: what belongs to subordinate ids can be looked at and removed by the account."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.builds import ACCOUNT, AsAccount
from tests.support.cli import Pybuild

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else"),
]
Context = Callable[[dict[str, "str | bytes"]], str]
DOCKERFILE = "FROM scratch\nCOPY --chown=33:44 Dockerfile /d\n"


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="account-"))
    folder.chmod(0o755)
    (folder / "context").mkdir()
    (folder / "context" / "Dockerfile").write_text(DOCKERFILE)
    for path in (folder, folder / "context", folder / "context" / "Dockerfile"):
        os.chown(path, ACCOUNT, ACCOUNT)
    yield folder
    shutil.rmtree(folder)


def test_an_account_removes_what_rm_can_not(home: Path) -> None:
    root = home / "root"
    account = AsAccount(str(root), {"HOME": str(home)})
    account.ok("-t", "app", str(home / "context"))
    owners = {os.stat(path).st_uid for path in root.rglob("d")}
    assert owners - {ACCOUNT}, "nothing belongs to a subordinate id"
    listed = account.ok("unshare", "find", str(root / "snapshots"), "-name", "d", "-printf", "%U:%G\n")
    assert listed.out == "33:44\n"
    assert account.ok("reset", "--force").out == f"removed {root}\n"
    assert not root.exists()


def test_reset_removes_nothing_that_is_not_its_own(pybuild: Pybuild, context: Context) -> None:
    folder = context({"Dockerfile": DOCKERFILE})
    pybuild.ok("-t", "app", folder)
    Path(pybuild.root, "notes").write_text("mine")
    assert "left, since it is not ours: notes" in pybuild.ok("reset", "-f").out
    assert os.listdir(pybuild.root) == ["notes"]
    again = pybuild("reset", "-f")
    assert again.code == 1
    assert "no state folder of pybuild: nothing was removed" in again.err
    other = pybuild("reset", "-f", "--root", folder)
    assert other.code == 1
    assert os.path.exists(f"{folder}/Dockerfile")
    assert pybuild("reset", "-f", "--root", f"{folder}/none").code == 1


def test_reset_asks_and_never_guesses_the_answer(pybuild: Pybuild, context: Context) -> None:
    pybuild.ok("-t", "app", context({"Dockerfile": DOCKERFILE}))
    refused = pybuild("reset")
    assert refused.code == 1
    assert "--force" in refused.err
    assert "app" in pybuild.ok("images").out


def test_a_folder_in_use_is_not_removed(pybuild: Pybuild, context: Context, busybox: str) -> None:
    step = "RUN --mount=type=cache,target=/m touch /m/begun; sleep 3600"
    running = pybuild.start(context({"Dockerfile": f"FROM {busybox}\n{step}\n"}))
    try:
        while not any("begun" in names for _, _, names in os.walk(pybuild.root)):
            assert running.poll() is None
        refused = pybuild("reset", "-f")
        assert refused.code == 1
        assert "in use by another process: nothing was removed" in refused.err
        assert os.path.exists(f"{pybuild.root}/metadata.db")
    finally:
        running.terminate()
        running.wait(60)
    pybuild.ok("reset", "-f")
    assert not os.path.exists(pybuild.root)


def test_unshare_gives_the_commands_exit_code_and_knows_unknown_ones(pybuild: Pybuild) -> None:
    assert pybuild("unshare", "sh", "-c", "exit 7").code == 7
    unknown = pybuild("unshare", "no-such-command")
    assert unknown.code == 1
    assert "no-such-command: No such file or directory" in unknown.err
    mine = os.readlink("/proc/self/ns/mnt")
    assert pybuild.ok("unshare", "readlink", "/proc/self/ns/mnt").out.strip() != mine

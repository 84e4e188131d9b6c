"""An ordinary account with subordinate ids, which has said nothing of where things are to be kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.fuzz.builds import ACCOUNT, AsAccount

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else"),
]


def test_the_state_folder_is_in_the_accounts_home(home: Path, busybox_layout: str) -> None:
    """In a user namespace everybody is root, whose folder is another one."""
    context = home / "context"
    shutil.copytree(busybox_layout, home / "base")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\nCOPY Dockerfile /d\nRUN id -u > /who && chown 1000:1001 /who\n")
    for folder, _, names in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, ACCOUNT, ACCOUNT)
    account = AsAccount(str(home / "unused"), {"HOME": str(home)})
    usual = {"PYBUILD_ROOT": None, "XDG_DATA_HOME": None}
    account.ok("--build-context", f"base=oci-layout://{home / 'base'}", "-t", "app", str(context), env=usual)
    assert "app" in account.ok("images", env=usual).out
    assert (home / ".local/share/pybuild/metadata.db").stat().st_uid == ACCOUNT
    account.ok("fsck", env=usual)

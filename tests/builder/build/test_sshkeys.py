"""Key files for --ssh: agents that have them, for as long as a build."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builder.build.sshkeys import KeyAgents
from builder.errors import UsageError
from tests.support.cli import REPOSITORY
from tests.support.processes import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def key(tmp_path: Path) -> str:
    return make_key(tmp_path / "key")


def make_key(path: Path, passphrase: str = "") -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", path], check=True)
    path.chmod(0o644)  # ssh-add would refuse it by name; BuildKit doesn't care
    return str(path)


def listed(socket: str) -> list[str]:
    env = {**os.environ, "SSH_AUTH_SOCK": socket}
    out = subprocess.run(["ssh-add", "-L"], env=env, capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in out.splitlines()]


def test_an_agent_has_the_keys_of_its_id(tmp_path: Path, key: str) -> None:
    other = make_key(tmp_path / "other")
    agents = KeyAgents({"default": [key, other], "one": [other]})
    assert listed(agents.sockets["default"]) == ["key", "other"]
    assert listed(agents.sockets["one"]) == ["other"]
    agents.close()
    assert not any(os.path.exists(os.path.dirname(socket)) for socket in agents.sockets.values())


def test_what_is_no_usable_key_is_told_and_leaves_no_agent(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    secret = make_key(tmp_path / "secret", "hunter2")
    (tmp_path / "text").write_text("no key")
    os.mkfifo(tmp_path / "fifo")
    causes = {secret: "it has a passphrase", f"{tmp_path}/text": "can't be used as a key", f"{tmp_path}/fifo": "not a regular file"}
    for path, cause in causes.items():
        with pytest.raises(UsageError, match=f"--ssh a: .*{cause}"):
            KeyAgents({"a": [key, path]})
    assert list(tmp_path.glob("pybuild-ssh-*")) == []


def test_without_openssh_the_way_out_is_named(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageError, match="key files need ssh-agent") as e:
        KeyAgents({"a": [key]})
    assert "OpenSSH" in e.value.hint


def test_an_agent_goes_with_a_process_that_is_killed(key: str) -> None:
    code = "import sys; from builder.build.sshkeys import KeyAgents as K; a = K({'a': [sys.argv[1]]}); "
    code += "print(a.sockets['a'], flush=True); input()"
    command = [sys.executable, "-c", code, key]
    env = {**os.environ, "PYTHONPATH": REPOSITORY}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout is not None
        socket = process.stdout.readline().strip()
        assert listed(socket) == ["key"]
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not os.path.exists(os.path.dirname(socket)), "the agent's folder is gone")

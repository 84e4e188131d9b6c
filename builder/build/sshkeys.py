"""Agents for the key files of ``--ssh default=~/.ssh/id_ed25519``: BuildKit's client has one inside, here it is OpenSSH's.

Each agent lives as long as the pipe to its shell is open: it goes with the build, and also where this process is killed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from builder.errors import UsageError
from runtime.errors import UnsafePathError
from runtime.linux.named import read_named

_MAX_KEY = 100 << 10
"""Bytes: BuildKit's limit (sshforward/sshprovider)."""
_MAX_SOCKET = 107
# The agent runs this and ends with it. What it prints says that the socket is there.
_WAIT = 'echo ready; cat > /dev/null; kill "$SSH_AGENT_PID"; rm -rf "$0"'


class KeyAgents:
    """``sockets``: id -> the socket of an agent that has the keys. UsageError for a file that is no key, or has a passphrase."""

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        self.sockets: dict[str, str] = {}
        self._running = ExitStack()
        with self._running as undone:
            for name, paths in keys.items():
                socket = self.sockets[name] = self._start(name)
                for path in paths:
                    _add(socket, name, path)
            self._running = undone.pop_all()

    def close(self) -> None:
        """End the agents. Their sockets and folders are gone when this comes back."""
        self._running.close()

    def _start(self, name: str) -> str:
        folder = tempfile.mkdtemp(prefix="pybuild-ssh-")
        if len(os.fsencode(folder)) > _MAX_SOCKET - len("/agent"):
            os.rmdir(folder)
            folder = tempfile.mkdtemp(prefix="pybuild-ssh-", dir="/tmp")
        socket = f"{folder}/agent"
        try:
            shell = subprocess.Popen(
                ["ssh-agent", "-a", socket, "sh", "-c", _WAIT, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as e:
            os.rmdir(folder)
            raise _no_tool(name, "ssh-agent", e) from e
        self._running.callback(_stop, shell)
        assert shell.stdout is not None
        assert shell.stderr is not None
        if shell.stdout.readline() != b"ready\n":
            raise UsageError(f"--ssh {name}: ssh-agent does not start: {_last_line(shell.stderr.read())}")
        return socket


def _stop(shell: subprocess.Popen[bytes]) -> None:
    shell.communicate()


def _add(socket: str, name: str, path: str) -> None:
    """By standard input: whose file it is and who else may read it is the user's affair, as with BuildKit."""
    try:
        key = read_named(path, _MAX_KEY)
    except (OSError, UnsafePathError) as e:
        cause = f"{path}: {(e.strerror or '').lower()}" if isinstance(e, OSError) else str(e)
        raise UsageError(f"--ssh {name}: failed to read a key: {cause}") from e
    # Without a terminal and a program to ask with, a passphrase is a failure and no question.
    environment = {**os.environ, "SSH_AUTH_SOCK": socket, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["ssh-add", "-q", "-"], input=key, capture_output=True, env=environment, start_new_session=True, check=False
        )
    except OSError as e:
        raise _no_tool(name, "ssh-add", e) from e
    if done.returncode:
        hint = "a key with a passphrase can only come from an agent: load it with ssh-add, and name the agent's socket"
        cause = "it has a passphrase" if b"passphrase" in done.stderr else _last_line(done.stderr) or "ssh-add refuses it"
        raise UsageError(f"--ssh {name}: {path} can't be used as a key: {cause}", hint=hint if "pass" in cause else "")


def _no_tool(name: str, tool: str, error: OSError) -> UsageError:
    hint = "install OpenSSH's client, or load the keys into an agent and name its socket"
    return UsageError(f"--ssh {name}: key files need {tool}: {(error.strerror or '').lower()}", hint=hint)


def _last_line(text: bytes) -> str:
    return text.decode(errors="replace").strip().rpartition("\n")[2]

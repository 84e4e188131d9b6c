"""The agent as a step sees it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from builder.ops.exec_ssh import AgentForwarder

IDENTITIES, SIGN, ADD, REMOVE_ALL, LOCK, EXTENSION = 11, 13, 17, 19, 22, 27
FAILURE = b"\x05"


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


class Agent:
    """Answers every message with its own type and text, in capitals."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: list[int] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                while head := connection.recv(4):
                    body = connection.recv(int.from_bytes(head, "big"))
                    self.seen.append(body[0])
                    connection.sendall(frame(body.upper()))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def agent(tmp_path: Any) -> Iterator[Agent]:
    agent = Agent(str(tmp_path / "real"))
    yield agent
    agent.close()


def talk(path: str, *messages: bytes) -> list[bytes]:
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        out = []
        for message in messages:
            s.sendall(message)
            head = s.recv(4)
            out.append(s.recv(int.from_bytes(head, "big")) if head else b"")
        return out


def test_keys_are_listed_and_used(agent: Agent, tmp_path: Any) -> None:
    path = str(tmp_path / "sock")
    with AgentForwarder(agent.path, path):
        messages = [frame(bytes([IDENTITIES])), frame(bytes([SIGN]) + b"data")]
        assert talk(path, *messages) == [bytes([IDENTITIES]), bytes([SIGN]) + b"DATA"]


@pytest.mark.parametrize("kind", [ADD, REMOVE_ALL, LOCK, EXTENSION])
def test_the_agent_is_not_changed(agent: Agent, tmp_path: Any, kind: int) -> None:
    """And goes on serving."""
    path = str(tmp_path / "sock")
    with AgentForwarder(agent.path, path):
        assert talk(path, frame(bytes([kind])), frame(bytes([IDENTITIES]))) == [FAILURE, bytes([IDENTITIES])]
    assert agent.seen == [IDENTITIES]


def test_several_steps_at_once(agent: Agent, tmp_path: Any) -> None:
    """One forwarder, a connection after the other."""
    path = str(tmp_path / "sock")
    with AgentForwarder(agent.path, path):
        for _ in range(3):
            assert talk(path, frame(bytes([IDENTITIES]))) == [bytes([IDENTITIES])]


def test_endless_messages_end_the_connection(agent: Agent, tmp_path: Any) -> None:
    path = str(tmp_path / "sock")
    with AgentForwarder(agent.path, path):
        assert talk(path, b"\xff\xff\xff\xff") == [b""]
        assert talk(path, b"\0\0\0\0") == [b""]
    assert agent.seen == []


def test_an_agent_that_is_gone_ends_the_connection(tmp_path: Any) -> None:
    path = str(tmp_path / "sock")
    with AgentForwarder(str(tmp_path / "nothing"), path), socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(path)
        assert s.recv(4) == b""


def test_nothing_listens_afterwards(agent: Agent, tmp_path: Any) -> None:
    path = str(tmp_path / "sock")
    with AgentForwarder(agent.path, path), socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(frame(bytes([IDENTITIES])))
        assert s.recv(100)
    with socket.socket(socket.AF_UNIX) as s, pytest.raises(ConnectionRefusedError):
        s.connect(path)


def test_paths_longer_than_a_socket_address(agent: Agent, tmp_path: Any) -> None:
    """The state root may lie deep; a socket's address has 108 bytes."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with AgentForwarder(agent.path, str(folder / "agent.sock")):
        link = str(tmp_path / "l")
        os.symlink(folder, link)
        assert talk(link + "/agent.sock", frame(bytes([IDENTITIES]))) == [bytes([IDENTITIES])]

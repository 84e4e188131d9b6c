"""What goes over the border between a caller's process and the one that builds: pickled values in frames of a stream socket.

Both ends are the same program, and the socket is a pair that nobody else has: pickle reads nothing here that a stranger wrote.
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

from builder.errors import PybuildError
from builder.values import dataclass

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_HEAD = struct.Struct("!Q")


class LostError(Exception):
    """The other end is gone, in the middle of a frame or before one."""


@dataclass(frozen=True, slots=True)
class Ask:
    """``kind`` is the method of Engine; ``work`` a function of a module."""

    kind: str
    work: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What the work told its sink, or the value of the context that it opened."""

    value: object


@dataclass(frozen=True, slots=True)
class Ended:
    """The result, or the error in its place."""

    value: object = None
    error: BaseException | None = None


def send(sock: socket.socket, value: object) -> None:
    """One frame. UsageError-like PybuildError if the value can't leave its process; OSError."""
    data = encode(value)
    sock.sendall(_HEAD.pack(len(data)))
    sock.sendall(data)


def receive(sock: socket.socket) -> Any:
    """One frame. LostError."""
    (size,) = _HEAD.unpack(_exactly(sock, _HEAD.size))
    return pickle.loads(_exactly(sock, size))


def encode(value: object) -> bytes:
    """Pickled. PybuildError names what can't be: a function of the caller's, say, which exists in his process alone."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as e:
        raise PybuildError(f"can't be handed to the process that builds: {e}", hint="use plain values") from e
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Exceptions too: as they are made by default they come back only if they take their ``args`` for arguments."""

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, BaseException) or isinstance(value, OSError):
            return NotImplemented
        return _exception, (type(value), value.args, value.__dict__, value.__cause__)


def _exception(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], cause: BaseException | None
) -> BaseException:
    made: BaseException = kind.__new__(kind, *args)
    made.__dict__.update(state)
    made.__cause__ = cause
    return made


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = sock.recv(min(size - len(data), 1 << 20))
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise LostError
        data += chunk
    return bytes(data)

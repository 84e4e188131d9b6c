"""Mounts of one process: shared by everybody who asks for the same snapshot, gone with the last of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.state import locks
from builder.state.disk import store_errors
from builder.values import dataclass, field
from runtime.linux.mounts import MountError, unmount

if TYPE_CHECKING:
    from builder.state.layout import Layout

_PREFIX = "mounts-"


@dataclass(slots=True)
class _Mount:
    users: int = 0
    target: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class MountTable:
    """Counted mounts below a scratch folder ROOT/tmp/mounts-*, which the process keeps locked while it lives."""

    def __init__(self, layout: Layout) -> None:
        self._tmp = layout.tmp
        self._lock = threading.Lock()
        self._mounts: dict[str, _Mount] = {}
        self._base = ""
        self._pid = 0
        self._held = -1
        self._number = 0

    @contextmanager
    def use(self, key: str, attach: Callable[[str], None], detach: Callable[[], None] | None = None) -> Iterator[str]:
        """The folder where ``key`` is mounted. ``attach(target)`` mounts for the first user, ``detach()`` cleans up after the
        last one. Threads that want other keys don't wait."""
        mount = self._enter(key)
        try:
            with mount.lock:
                if not mount.target:
                    target = self._target()
                    try:
                        attach(target)
                    except MountError as e:
                        os.rmdir(target)
                        raise StoreError(str(e), hint=e.hint) from None
                    except BaseException:
                        os.rmdir(target)
                        raise
                    mount.target = target
            yield mount.target
        finally:
            self._leave(key, mount, detach)

    def _enter(self, key: str) -> _Mount:
        with self._lock:
            if self._pid != os.getpid():
                # A forked worker has its parent's mounts, but not the right to end them.
                self._mounts, self._base, self._pid, self._held = {}, "", os.getpid(), -1
            mount = self._mounts.setdefault(key, _Mount())
            mount.users += 1
            return mount

    def mounted(self, key: str) -> bool:
        """Is somebody of this process using it?"""
        with self._lock:
            return self._pid == os.getpid() and key in self._mounts

    def _leave(self, key: str, mount: _Mount, detach: Callable[[], None] | None) -> None:
        with mount.lock:
            with self._lock:
                mount.users -= 1
                if mount.users:
                    return
                if self._mounts.get(key) is mount:
                    del self._mounts[key]
            if mount.target:
                target, mount.target = mount.target, ""
                # Lazily: a process of the step that outlives it must not make the build fail.
                try:
                    unmount(target, lazy=True)
                except MountError as e:
                    raise StoreError(str(e)) from None
                os.rmdir(target)
                if detach is not None:
                    detach()
                self._tidy()

    def _target(self) -> str:
        with self._lock:
            if not self._base:
                with store_errors("can't make a mount point"):
                    self._base, self._held = locks.new_folder(self._tmp, _PREFIX)
            self._number += 1
            target = os.path.join(self._base, str(self._number))
            with store_errors("can't make a mount point"):
                os.mkdir(target, 0o700)
            return target

    def _tidy(self) -> None:
        """Remove the scratch folder with the last mount point: a process leaves nothing, without being told to clean up."""
        with self._lock:
            if self._base:
                try:
                    os.rmdir(self._base)
                except OSError:
                    return  # another mount point is in it
                os.close(self._held)
                self._base = ""


def sweep(layout: Layout) -> None:
    """Remove the mount points of processes that are gone. Only rmdir: whatever might be mounted there is never touched."""
    with os.scandir(layout.tmp) as entries:
        bases = [entry.path for entry in entries if entry.name.startswith(_PREFIX)]
    for base in bases:
        try:
            fd = locks.try_lock_left(base)
        except OSError:
            continue
        if fd is None:
            continue
        try:
            for name in os.listdir(base):
                os.rmdir(os.path.join(base, name))
            os.rmdir(base)
        except OSError:
            pass
        finally:
            os.close(fd)

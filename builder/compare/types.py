"""What is built, by which program, and how that failed."""

from __future__ import annotations

from typing import Protocol

from builder.errors import PybuildError
from builder.values import dataclass


class CompareError(PybuildError):
    """No comparison could be made: a builder is missing or failed, an image can't be read, a rule file is wrong."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """One build, in the words of ``docker buildx build``: each tuple holds the values of a flag that may come many times.

    ``flags`` are the pairs (flag, value) that every builder spells alike; ``allow`` are entitlements, which only pybuild and
    buildctl ask for. ``network`` is empty, host or none.
    """

    context: str
    file: str = ""
    target: str = ""
    platform: str = ""
    network: str = ""
    build_args: tuple[str, ...] = ()
    build_contexts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    add_hosts: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    shm_size: str = ""
    cgroup_parent: str = ""
    pull: bool = False


class Builder(Protocol):
    """A program that builds. ``build`` is what is timed, ``export`` is not."""

    name: str

    def describe(self) -> str:
        """Name and version; CompareError if the program, or the daemon it needs, is not there."""
        ...

    def build(self, spec: BuildSpec, *, cold: bool) -> None:
        """Build into the builder's own store; ``cold``: as if nothing had been built before. CompareError with its last words."""
        ...

    def export(self, folder: str) -> str:
        """Write the image of the last ``build`` below ``folder``: the path of an archive or an OCI layout."""
        ...

    def close(self) -> None:
        """Give back what building took: state folders, tags."""
        ...

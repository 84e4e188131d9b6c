"""What callers say of the files that they mean."""

from __future__ import annotations

from builder.errors import LayerError
from builder.values import dataclass


@dataclass(frozen=True, slots=True)
class ChecksumOptions:
    """Which files below a path count (BuildKit's contenthash.ChecksumOpts)."""

    follow_links: bool = False
    wildcard: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    required_paths: tuple[str, ...] = ()


class NeedsParent(LayerError):
    """This layer can't be unpacked beside its parents: it has a hard link to a file of theirs, or no entry of its own for one of
    its folders, which then takes owner and mode from theirs. Nothing was kept; apply it again once the parent chain is
    committed."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What lies in the folder now: bytes on disk, inodes; and what is to be hidden below, as paths without leading slash."""

    size: int
    inodes: int
    whiteouts: frozenset[str]
    opaques: frozenset[str]

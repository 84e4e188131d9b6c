"""Results as the refs they are in a build: ``Ref``, which is a record of the cache, or a context that is read in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from builder.solver.types import UnknownContentError
from builder.sources.local import LocalRef

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef
    from builder.files.types import ChecksumOptions
    from builder.oci.digest import Digest
    from builder.solver.types import OpContext

    Ref = ImmutableRef | LocalRef


def recorded(result: Ref) -> ImmutableRef:
    """The ref of the cache manager with the result's files, which stays the result's to release.

    A context that is read in place is no layer, and what it shows may change: its ref is a private copy, made once.
    """
    return result.materialize() if isinstance(result, LocalRef) else result


def owned(result: Ref) -> ImmutableRef:
    """The same, the caller's to release."""
    return recorded(result).clone()


def release_all(refs: Iterable[ImmutableRef | None]) -> None:
    for ref in refs:
        if ref is not None:
            ref.release()


def is_context(result: Ref) -> bool:
    """Are its files read in place?"""
    return isinstance(result, LocalRef)


def checksum(ref: Ref, path: str, options: ChecksumOptions, context: OpContext) -> Digest:
    """``Readable.checksum``; UnknownContentError where a plan would have to mount what nobody has hashed yet."""
    if context.planning and not isinstance(ref, LocalRef):
        known = ref.known_checksum(path, options)
        if known is None:
            raise UnknownContentError(f"content of {path} was never looked at")
        return known
    return ref.checksum(path, options)

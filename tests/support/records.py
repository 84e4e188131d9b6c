"""What tests ask of cache records that the product has no question for."""

from __future__ import annotations

from builder.cache.record import LAZY
from builder.cache.refs import ImmutableRef


def is_lazy(ref: ImmutableRef) -> bool:
    """Would a mount have to unpack, merge or download something first?"""
    return any(record.state == LAZY for record in ref._services.known.unready(ref.id))

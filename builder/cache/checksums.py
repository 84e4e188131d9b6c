"""Content checksums of refs, each computed once: a ref's files never change (BuildKit: cache/contenthash)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.cache.types import Readable
    from builder.files.types import ChecksumOptions
    from builder.oci.digest import Digest
    from builder.state.database import Database


class Checksums:
    """What was computed is remembered in the database, for every process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, ref: Readable, path: str, options: ChecksumOptions) -> Digest:
        """See ``Readable.checksum``."""
        known = self.known(ref.id, path, options)
        if known is not None:
            return known
        from builder.files.checksum import checksum
        from builder.files.statcache import RefChecksums

        with ref.mount() as folder:
            digest = checksum(folder, path, options)
        RefChecksums(self._database).put(ref.id, path, options, digest)
        return digest

    def known(self, record_id: str, path: str, options: ChecksumOptions) -> Digest | None:
        """One that was computed before."""
        from builder.files.statcache import RefChecksums

        return RefChecksums(self._database).get(record_id, path, options)

    def forget(self, record_ids: Iterable[str]) -> None:
        """For records that were deleted."""
        from builder.files.statcache import RefChecksums

        RefChecksums(self._database).forget(record_ids)

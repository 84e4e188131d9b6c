"""The time of a source, for a SOURCE_DATE_EPOCH that names one (``SOURCE_DATE_EPOCH=context``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.errors import PybuildError
from builder.graph.ops import GitSource, HTTPSource

if TYPE_CHECKING:
    from builder.session import Session
    from builder.worker import Worker

_NS = 1_000_000_000


def source_time(worker: Worker, session: Session, source: GitSource | HTTPSource) -> int | None:
    """Seconds since the epoch: of the commit; of Last-Modified; of the newest file in the archive. None if there is none."""
    if isinstance(source, GitSource):
        from builder.sources.git import GitFetcher

        return GitFetcher(worker, session, source).commit_time()
    return _http_time(worker, session, source)


def _http_time(worker: Worker, session: Session, source: HTTPSource) -> int | None:
    from builder.sources.http import HTTPFetcher

    fetcher = HTTPFetcher(worker, session, source)
    try:
        found = fetcher.resolve()
        if found.modified is not None:
            return found.modified
        ref = fetcher.snapshot()
        try:
            with ref.mount() as folder:
                return newest_in_archive(f"{folder}/{found.filename}")
        finally:
            ref.release()
    finally:
        fetcher.close()


def newest_in_archive(path: str) -> int | None:
    """Seconds since the epoch: the time of the newest regular file; None for what is no archive."""
    from builder.content.compression import decompress
    from builder.files.tar.reader import TarReader

    newest: int | None = None
    try:
        for entry in TarReader(decompress(_chunks(path))):
            if entry.type == "0":
                newest = max(newest or 0, entry.mtime_ns // _NS)
    except PybuildError:
        return None
    return newest


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk

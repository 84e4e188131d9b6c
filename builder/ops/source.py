"""SourceOp: vertices without inputs, which bring files in. The work is in ``builder.sources``; here are keys and progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import NotFoundError, SourceError
from builder.graph.ops import GitSource, HTTPSource, ImageSource, LocalSource, OCILayoutSource
from builder.oci.digest import Digest
from builder.oci.platform import host
from builder.ops.ahead import before_work
from builder.ops.llb_json import manifest_key, source_digest
from builder.progress.events import Log, Status
from builder.solver.types import CacheMap, Op, OpContext
from builder.text.redact import redact_url

if TYPE_CHECKING:
    from builder.cache.types import UnlazyProgress
    from builder.graph.vertex import Vertex
    from builder.oci.descriptor import Descriptor
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.sources.git import GitFetcher, GitTarget
    from builder.sources.http import HTTPFetcher
    from builder.sources.image import ResolvedImage
    from builder.worker import Worker


class SourceOp:
    """Any source vertex."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        self._op = _behaviour(vertex, worker, session)

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        return self._op.cache_map(context, index)

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        return self._op.exec(context, inputs)


def _behaviour(vertex: Vertex, worker: Worker, session: Session) -> Op[Ref]:
    match vertex.op:
        case ImageSource() | OCILayoutSource():
            return ImageOp(vertex, worker, session)
        case HTTPSource():
            return HTTPOp(vertex, worker, session)
        case GitSource():
            return GitOp(vertex, worker, session)
        case LocalSource():
            from builder.sources.local import LocalSourceOp

            return LocalSourceOp(vertex, worker, session)
    raise SourceError(f"{vertex.op.kind} is no source")


class ImageOp:
    """An image of a registry, of the own store or of an OCI layout. Two keys, as BuildKit's puller has them: by manifest and
    platform, and by the chainID of its layers, which hits where only the config or the compression differ."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        self._vertex = vertex
        self._worker = worker
        self._session = session
        self._platform = vertex.platform or host()
        self._image: ResolvedImage | None = None
        self._lock = threading.Lock()

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        from builder.sources.image import config_key

        image = self._resolve(context)
        p = self._platform
        parts = (("image", image.ref), ("digest", image.target.digest), ("platform", str(p)))
        chain = config_key(image.config)
        if index == 0 or chain is None:
            return CacheMap(source_digest(manifest_key(image.target.digest, p)), parts=parts), chain is None or index > 0
        return CacheMap(source_digest(chain), parts=parts), True

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        """The layers, lazy; an image without any is an empty root."""
        from builder.sources.image import layer_chain

        image = self._resolve(context)
        ref = layer_chain(self._worker, image.layers, f"pulled from {image.ref}", _download_progress(context))
        if ref is None:
            ref = self._worker.cache.new(None, description=f"empty image {image.ref}").commit()
        return [ref]

    def _resolve(self, context: OpContext) -> ResolvedImage:
        with self._lock:
            if self._image is None:
                op = self._vertex.op
                name = op.ref if isinstance(op, ImageSource) else f"{op.store}@{op.ref}" if isinstance(op, OCILayoutSource) else ""
                with _status(context, f"resolve {name}"):
                    self._image = self._find()
            return self._image

    def _find(self) -> ResolvedImage:
        op = self._vertex.op
        if isinstance(op, ImageSource):
            from builder.sources import image

            return image.resolve_config(self._worker, op.ref, self._platform, op.resolve_mode)
        assert isinstance(op, OCILayoutSource)
        from builder.sources import oci_layout

        folder = self._session.oci_layouts.get(op.store)
        if folder is None:
            raise NotFoundError(f"no OCI layout named {op.store} was given")
        return oci_layout.resolve_config(self._worker, folder, op.ref, self._platform)


class HTTPOp:
    """A file by http(s)."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, HTTPSource)
        self._source = vertex.op
        self._worker = worker
        self._session = session
        self._fetcher: HTTPFetcher | None = None
        self._lock = threading.Lock()

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        with self._lock, _Download(context, redact_url(self._source.url)) as download:
            fetcher = self._fetch(context, download)
            found = fetcher.resolve()
            parts = (("url", redact_url(self._source.url)), ("file", found.filename), ("digest", found.digest))
            return CacheMap(fetcher.key(), parts=(*parts, ("last-modified", found.last_modified))), True

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        before_work(context.vertex, self._session)
        with self._lock, _Download(context, redact_url(self._source.url)) as download:
            return [self._fetch(context, download).snapshot()]

    def _fetch(self, context: OpContext, download: _Download) -> HTTPFetcher:
        if self._fetcher is None:
            from builder.sources.http import HTTPFetcher

            self._fetcher = HTTPFetcher(self._worker, self._session, self._source)
        # The context of this call: an op lives for a build, a context for one piece of work.
        self._fetcher.progress = download
        return self._fetcher


class GitOp:
    """A git repository's files. What the remote said is asked once in a build."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, GitSource)
        self._source = vertex.op
        self._worker = worker
        self._session = session
        self._target: GitTarget | None = None
        self._lock = threading.Lock()

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        with self._lock:
            fetcher = self._fetcher(context)
            target = self._target = fetcher.resolve()
        parts = (("git", redact_url(self._source.remote)), ("ref", target.ref), ("commit", target.commit or target.object))
        return CacheMap(fetcher.key(), parts=parts), True

    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        before_work(context.vertex, self._session)
        with self._lock:
            return [self._fetcher(context).snapshot()]

    def _fetcher(self, context: OpContext) -> GitFetcher:
        from builder.sources.git import GitFetcher

        def log(data: bytes) -> None:
            context.emit(Log(context.vertex.digest, 2, data, time.monotonic()))

        return GitFetcher(self._worker, self._session, self._source, target=self._target, log=log)


def _download_progress(context: OpContext) -> UnlazyProgress:
    """A line for each layer, as its bytes come."""

    def progress(descriptor: Descriptor, done: int, total: int, finished: bool) -> None:
        context.emit(Status(context.vertex.digest, str(descriptor.digest), done, total, time.monotonic(), finished))

    return progress


class _Download:
    """A line of progress for a download: told (bytes so far, bytes in all or 0), shown ten times a second at most. It ends with the
    block, whatever came of it."""

    def __init__(self, context: OpContext, name: str) -> None:
        self._context = context
        self._name = name
        self._done = self._total = 0
        self._shown = 0.0

    def __call__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if time.monotonic() - self._shown >= 0.1:
            self._emit(completed=False)

    def __enter__(self) -> _Download:
        return self

    def __exit__(self, *_: object) -> None:
        if self._done:
            self._emit(completed=True)

    def _emit(self, *, completed: bool) -> None:
        self._shown = time.monotonic()
        status = Status(self._context.vertex.digest, self._name, self._done, self._total, self._shown, completed)
        self._context.emit(status)


class _status:
    """A line of progress that begins and ends with a block."""

    def __init__(self, context: OpContext, name: str) -> None:
        self._context = context
        self._name = name

    def __enter__(self) -> None:
        self._emit(completed=False)

    def __exit__(self, *_: object) -> None:
        self._emit(completed=True)

    def _emit(self, *, completed: bool) -> None:
        digest: Digest = self._context.vertex.digest
        self._context.emit(Status(digest, self._name, 0, 0, time.monotonic(), completed))

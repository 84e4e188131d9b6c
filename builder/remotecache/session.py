"""The remote caches of one build: imported before it, exported after it, whether or not it came to a good end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import CancelledError, PybuildError
from builder.oci.digest import digest_parts
from builder.progress.events import Sink, Status, VertexCompleted, VertexKnown, VertexStarted, Warned
from builder.state.threads import start

if TYPE_CHECKING:
    from builder.content.types import Compression, Layer
    from builder.exporters.types import InlineCache
    from builder.remotecache.types import CacheExport, Place, RemoteLayer
    from builder.solver.exporter import HasKeys
    from builder.solver.keycache import KeyCache
    from builder.worker import Worker


class RemoteCaches:
    """``imports`` are looked at in their order; reading them begins at once, beside whatever else the build does."""

    def __init__(
        self, worker: Worker, imports: Sequence[Place], exports: Sequence[CacheExport], sink: Sink, *, images: bool = True
    ) -> None:
        """``images``: is there an output that an inline cache could go into?"""
        self._worker, self._exports, self._sink = worker, tuple(exports), sink
        self._found: list[list[KeyCache]] = [[] for _ in imports]
        self.warnings: list[str] = []
        self._threads = [
            start(partial(self._import, i, place), "cache-import") for i, place in enumerate(dict.fromkeys(imports))
        ]
        self._inline = next((e for e in self._exports if e.place is None), None)
        if self._inline is not None and not images:
            self._warn("inline cache is not exported: no output is an image")

    def key_caches(self) -> list[KeyCache]:
        """What was found, once all is read. A cache that is not there is a warning: the build goes on without it."""
        for thread in self._threads:
            thread.join()
        return [cache for caches in self._found for cache in caches]

    @contextmanager
    def exporting(self, results: Callable[[], Sequence[HasKeys]]) -> Iterator[None]:
        """Export when the block is over. When it failed, what was finished is exported and the failure stays what it was; after
        an interrupt nothing is."""
        try:
            yield
        except CancelledError:
            raise
        except Exception:
            self._export(results(), failed=True)
            raise
        self._export(results(), failed=False)

    def _import(self, index: int, place: Place) -> None:
        from builder.remotecache.importing import import_cache

        try:
            with self._shown(f"importing cache manifest from {place}"):
                self._found[index] = import_cache(self._worker, place, priority=index + 1)
        except (PybuildError, OSError) as e:
            self._warn(f"cache from {place} is not used: {e}")

    def _export(self, results: Sequence[HasKeys], *, failed: bool) -> None:
        from builder.remotecache.exporting import export_cache

        first: PybuildError | None = None
        for spec in self._exports:
            if spec.place is None:
                continue
            try:
                with self._shown(_TITLES[type(spec.place).__name__]) as report:
                    export_cache(self._worker, spec, spec.place, results, self._imported_layers, report)
            except PybuildError as e:
                if spec.ignore_error or failed:
                    self._warn(f"cache was not exported to {spec.place}: {e}")
                else:
                    first = first or e
        if first is not None:
            raise first

    def _imported_layers(self, result_id: str) -> tuple[RemoteLayer, ...] | None:
        from builder.remotecache.imported import ImportedResults

        for cache in self.key_caches():
            assert isinstance(cache.results, ImportedResults)
            layers = cache.results.layers(result_id)
            if layers is not None:
                return layers
        return None

    def inline_cache(self, result: HasKeys) -> InlineCache | None:
        """What makes the field of an image config that has the cache of ``result``; None if none was asked for."""
        spec = self._inline
        if spec is None:
            return None

        def make(layers: Sequence[Layer], compression: Compression) -> Mapping[str, str]:
            from builder.remotecache.exporting import inline_cache

            try:
                return inline_cache(self._worker, result, layers, compression, self._imported_layers)
            except PybuildError as e:
                if not spec.ignore_error:
                    raise
                self._warn(f"inline cache was not exported: {e}")
                return {}

        return make

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self._sink(Warned(text))

    @contextmanager
    def _shown(self, title: str) -> Iterator[Callable[[str], None]]:
        """As a vertex of its own, with a line for each thing that is reported."""
        digest = digest_parts("remotecache", title, str(time.monotonic_ns()), str(threading.get_ident()))

        def report(text: str) -> None:
            self._sink(Status(digest, text, 0, 0, time.monotonic(), completed=True))

        self._sink(VertexKnown(digest, title))
        self._sink(VertexStarted(digest, title, time.monotonic()))
        try:
            yield report
        except BaseException as e:
            self._sink(VertexCompleted(digest, title, time.monotonic(), error=str(e) or type(e).__name__))
            raise
        self._sink(VertexCompleted(digest, title, time.monotonic()))


_TITLES = {"RegistryPlace": "exporting cache to registry", "LocalPlace": "exporting cache to client directory"}

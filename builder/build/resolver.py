"""The frontend's view of the world: image configs and ignore files, by way of the worker's sources."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.build.dockerfile import find_ignore
from builder.errors import PybuildError
from builder.oci.digest import Digest, digest_parts
from builder.progress.events import Sink, VertexCompleted, VertexKnown, VertexStarted
from builder.text.redact import redact_text
from frontend.convert.options import ResolvedImageConfig, ResolveError

if TYPE_CHECKING:
    from builder.graph.ops import GitSource, HTTPSource, LocalSource
    from builder.oci.platform import Platform
    from builder.session import Session
    from builder.sources.image import Answer
    from builder.sources.pull import PullPolicy
    from builder.worker import Worker
    from frontend.convert.options import ResolveMode


@contextmanager
def step(sink: Sink, name: str) -> Iterator[Digest]:
    """Show a piece of work that is no vertex of the graph as one; gives the digest it is shown under."""
    name = redact_text(name)
    digest = digest_parts("step", name, str(time.monotonic_ns()), str(threading.get_ident()))
    sink(VertexKnown(digest, name))
    sink(VertexStarted(digest, name, time.monotonic()))
    try:
        yield digest
    except BaseException as e:
        sink(VertexCompleted(digest, name, time.monotonic(), error=redact_text(str(e)) or type(e).__name__))
        raise
    sink(VertexCompleted(digest, name, time.monotonic()))


class WorldResolver:
    """Implements ``frontend.convert.MetaResolver``; remembers answers: in one build a tag means one thing.

    ``warn`` is told what the user should know about the contexts, one line at a time.
    """

    def __init__(
        self,
        worker: Worker,
        session: Session,
        sink: Sink,
        warn: Callable[[str], None] = lambda _: None,
        pull: PullPolicy | None = None,
    ) -> None:
        """``pull``: how fresh answers of registries have to be; None: any will do."""
        self._worker, self._session, self._sink, self._warn = worker, session, sink, warn
        self._pull = pull
        self._told: set[str] = set()
        self._known: dict[tuple[str, str, str], ResolvedImageConfig] = {}
        self._lock = threading.Lock()

    def image_config(self, ref: str, platform: Platform, mode: ResolveMode) -> ResolvedImageConfig:
        from builder.oci.reference import Reference
        from builder.sources.image import resolve_config
        from builder.sources.pull import MISSING

        def resolve() -> ResolvedImageConfig:
            found = resolve_config(self._worker, ref, platform, mode, self._pull or MISSING)
            self._tell(Reference.parse(ref).familiar, found.answer)
            return ResolvedImageConfig(found.ref, found.config)

        name = f"[internal] load metadata for {Reference.parse(ref)}"
        return self._once((ref, str(platform), mode), name, resolve)

    def _tell(self, name: str, answer: Answer) -> None:
        """A digest that was asked for long ago hides what the tag is now: once for a name, from a day on."""
        from builder.sources.pull import DAY, age_text

        old = answer.age is not None and answer.age >= DAY
        if name in self._told or not (old or answer.failure):
            return
        self._told.add(name)
        when = f"resolved {age_text(answer.age)}" if answer.age is not None and old else "what was known of it is used"
        why = f"the registry can't be asked: {answer.failure}" if answer.failure else "--pull asks again"
        self._warn(f"{name} {when}, {why}")

    def oci_layout_config(self, name: str, ref: str, platform: Platform) -> ResolvedImageConfig:
        from builder.sources.oci_layout import resolve_config

        def resolve() -> ResolvedImageConfig:
            found = resolve_config(self._worker, self._session.oci_layouts[name], ref, platform)
            return ResolvedImageConfig(found.ref, found.config)

        return self._once((name, ref, str(platform)), f"[context {name}] load metadata for {name}", resolve)

    def read_ignore(self, name: str) -> bytes | None:
        folder = self._session.locals.get(name)
        if folder is None:
            return None
        try:
            found = find_ignore(folder)
        except PybuildError as e:
            raise ResolveError(f"context {name}: {e}") from e
        if found.warning:
            self._warn(f"context {name}: {found.warning}")
        return found.data

    def source_time(self, source: GitSource | HTTPSource) -> int | None:
        from builder.sources.times import source_time

        return self._time(lambda: source_time(self._worker, self._session, source))

    def archive_time(self, source: LocalSource, path: str) -> int | None:
        from builder.sources.times import newest_in_archive

        return self._time(lambda: newest_in_archive(f"{self._session.locals[source.name]}/{path}"))

    def _time(self, find: Callable[[], int | None]) -> int | None:
        try:
            with step(self._sink, "[internal] resolve SOURCE_DATE_EPOCH"):
                return find()
        except PybuildError as e:
            raise ResolveError(str(e)) from e

    def _once(self, key: tuple[str, str, str], name: str, resolve: Callable[[], ResolvedImageConfig]) -> ResolvedImageConfig:
        with self._lock:
            if key in self._known:
                return self._known[key]
        try:
            with step(self._sink, name):
                found = resolve()
        except PybuildError as e:
            raise ResolveError(f"failed to resolve source metadata for {key[0]}: {e}") from e
        with self._lock:
            return self._known.setdefault(key, found)


def context_folders(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(locals, OCI layouts): the folders of the --build-context values, by the names that the frontend gives them."""
    from frontend.convert.contexts import folder_of

    locals_: dict[str, str] = {}
    layouts: dict[str, str] = {}
    for name, value in values.items():
        key, kind, folder = folder_of(name, value)
        if kind == "local":
            locals_[key] = os.path.abspath(folder)
        elif kind == "oci-layout":
            layouts[key] = os.path.abspath(folder)
    return locals_, layouts

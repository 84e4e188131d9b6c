"""The image store: names of images that lie in the content store, and what is remembered of registries.

    images        name:tag -> manifest or index (``pybuild build -t``, ``pybuild images``); wins over any registry, as docker's
                  local images do
    resolutions   name:tag -> what the registry said last, so that the next build opens no connection (``--pull`` asks again)
    sources       blob -> repositories that have it: where a lazy layer comes from, and what a push can mount

ROOT/images.json repeats names and sources: should the database be damaged, names of whole images come back (``restore``).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import IntegrityError, NotFoundError, PybuildError
from builder.oci import fields
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.state.atomic import replacing
from builder.state.schema import BLOB_SOURCES, COUNTS, IMAGES, RESOLUTIONS
from builder.text.times import NS
from builder.values import dataclass

if TYPE_CHECKING:
    import sqlite3

    from builder.content.store import ContentStore
    from builder.state.database import Database
    from builder.state.tables import Row

_NAMES = "images"
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class StoredImage:
    """``created`` is RFC 3339 as the config has it, or empty; ``size`` the bytes of configs and layer blobs of all platforms;
    ``stored_at_ns`` counts from the epoch."""

    ref: Reference
    target: Descriptor
    created: str
    size: int
    stored_at_ns: int


class ImageStore:
    """A view on the tables; cheap to make, safe for threads and processes."""

    def __init__(self, database: Database, content: ContentStore, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._database = database
        self._content = content
        self._clock = clock

    # ------------------------------------------------------------------------------------------------ images
    def put(self, ref: Reference, target: Descriptor) -> StoredImage:
        """Name the image whose manifest or index ``target`` is in the content store; whatever had the name before loses it.

        Layer blobs may be lazy: then ``add_sources`` must know them. NotFoundError or IntegrityError for a manifest or config
        that is missing or damaged.
        """
        created, size = "", 0
        for document in self._documents(target):
            if isinstance(document, manifests.Manifest):
                created = created or self._created(document.config)
                size += document.config.size + sum(layer.size for layer in document.layers)
        image = StoredImage(_tagged(ref), target, created, size, self._clock())
        with self._database.transaction() as c:
            self._mend(c)
            row = (str(image.ref), target.media_type, target.digest, target.size, created, size, image.stored_at_ns)
            self._database.put(c, IMAGES, [row])
            self._repeat(c)
        return image

    def get(self, ref: Reference) -> StoredImage | None:
        """The image with that name and tag; with a digest in ``ref`` only if it is that one."""
        name = str(_tagged(ref))
        rows = self._database.find(IMAGES, name=name)
        if not rows and self._has_lost_names():
            self.restore()
            rows = self._database.find(IMAGES, name=name)
        image = _image(rows[0]) if rows else None
        if image is not None and ref.digest and image.target.digest != ref.digest:
            return None
        return image

    def list(self) -> tuple[StoredImage, ...]:
        """All, the newest first."""
        if self._has_lost_names():
            self.restore()
        return tuple(_image(row) for row in self._database.select(IMAGES, "ORDER BY stored_at_ns DESC, name"))

    def remove(self, ref: Reference) -> bool:
        """Take the name away; the blobs go with the next prune. False if there was no such image."""
        with self._database.transaction() as c:
            self._mend(c)
            removed = bool(c.execute("DELETE FROM images WHERE name = ?", (str(_tagged(ref)),)).rowcount)
            self._repeat(c)
        return removed

    def _has_lost_names(self) -> bool:
        """Are there fewer sound rows than there should be? A name that is lost would be looked for in a registry: another image."""
        counted = self._database.find(COUNTS, name=_NAMES)
        there = len(self._database.select(IMAGES))
        return there != counted[0][1] if counted else there > 0 or os.path.exists(self._path)

    def _mend(self, c: sqlite3.Connection) -> None:
        """Before names are written down again: those that the table has lost."""
        if self._has_lost_names():
            self._restore(c)

    @property
    def _path(self) -> str:
        return self._content.layout.path("images.json")

    def _repeat(self, c: sqlite3.Connection) -> None:
        """Write ROOT/images.json, in the transaction that changes names: one writer at a time. An old one must not stay: after a
        loss of the database it would give a name to the image that had it before."""
        path = self._path
        names = {"images": self._database.select(IMAGES), "sources": self._database.select(BLOB_SOURCES)}
        self._database.put(c, COUNTS, [(_NAMES, len(names["images"]))])
        try:
            with replacing(path, sync=False, scratch=self._content.layout.tmp) as write:
                write(json.dumps(names).encode())
        except OSError:
            if os.path.lexists(path):
                os.unlink(path)

    def restore(self) -> int:
        """Name again what ROOT/images.json names and the table does not, as far as every blob is here or in a known repository;
        gives the number."""
        with self._database.transaction() as c:
            return self._restore(c)

    def _restore(self, c: sqlite3.Connection) -> int:
        known = {row[0] for row in self._database.select(IMAGES)}
        try:
            with open(self._path, encoding="utf-8") as file:
                names = json.load(file)
            sources = [(Digest.parse(str(d)), str(Reference.parse(str(name)))) for d, name in names["sources"]]
            rows = [_checked(row) for row in names["images"]]
            elsewhere = {digest for digest, _ in sources}
            whole = [row for row in rows if row[0] not in known and self._is_whole(Descriptor(*row[1:4]), elsewhere)]
        except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError, PybuildError):
            sources, whole = [], []  # no file, or as damaged as the database
        self._database.put(c, BLOB_SOURCES, sources)
        self._database.put(c, IMAGES, whole)
        c.execute("DELETE FROM images WHERE name NOT IN (SELECT value FROM json_each(?))", (json.dumps(self._names()),))
        self._repeat(c)
        return len(whole)

    def _names(self) -> Sequence[str]:
        return [row[0] for row in self._database.select(IMAGES)]

    def _is_whole(self, target: Descriptor, elsewhere: set[Digest]) -> bool:
        try:
            self._content.read(target.digest, manifests.MAX_MANIFEST)
        except PybuildError:
            return False
        return all(self._content.has(d) or d in elsewhere for d in self._reachable(target, layers=True))

    # ------------------------------------------------------------------------------------------------ resolutions
    def remember(self, ref: Reference, target: Descriptor) -> None:
        """The registry said that ``ref`` is ``target`` now."""
        with self._database.transaction() as c:
            row = (str(_tagged(ref)), target.media_type, target.digest, target.size, self._clock())
            self._database.put(c, RESOLUTIONS, [row])

    def recall(self, ref: Reference) -> Descriptor | None:
        """What ``ref`` was when a registry was asked last; None if it never was, or its manifest is gone."""
        rows = self._database.find(RESOLUTIONS, name=str(_tagged(ref)))
        if not rows:
            return None
        target = Descriptor(rows[0][1], Digest(rows[0][2]), rows[0][3])
        try:
            self._content.read(target.digest, manifests.MAX_MANIFEST)
        except (NotFoundError, IntegrityError):
            return None
        return target

    def age(self, ref: Reference) -> float:
        """Seconds since a registry was asked what ``ref`` is; 0 if it never was."""
        query = "SELECT resolved_at_ns FROM resolutions WHERE name = ?"
        row = self._database.connection().execute(query, (str(_tagged(ref)),)).fetchone()
        return 0.0 if row is None else (self._clock() - row[0]) / NS

    def forget(self) -> int:
        """Drop all resolutions (``prune --all``); gives their number."""
        with self._database.transaction() as c:
            c.execute("DELETE FROM blob_sources")
            return c.execute("DELETE FROM resolutions").rowcount

    # ------------------------------------------------------------------------------------------------ sources
    def add_sources(self, digests: Iterable[Digest], ref: Reference) -> None:
        """The repository of ``ref`` has these blobs."""
        rows = [(digest, ref.name) for digest in digests]
        if rows and not self._known(rows):
            with self._database.transaction() as c:
                self._database.put(c, BLOB_SOURCES, rows)

    def sources(self, digest: Digest) -> tuple[Reference, ...]:
        """Repositories that are known to have the blob, in order of their names."""
        return tuple(Reference.parse(name) for _, name in self._database.find(BLOB_SOURCES, "repository", digest=digest))

    def _known(self, rows: Iterable[tuple[Digest, str]]) -> bool:
        return all(self._database.find(BLOB_SOURCES, digest=digest, repository=name) for digest, name in rows)

    # ------------------------------------------------------------------------------------------------ gc
    def gc_roots(self) -> set[Digest]:
        """Blobs that gc must keep: all of a named image, manifests and configs of what is remembered. It only reads."""
        roots: set[Digest] = set()
        if self._has_lost_names():
            self._database.suspect("names of images are missing")  # so that nothing is deleted
        for row in self._database.select(IMAGES):
            roots |= self._reachable(_image(row).target, layers=True)
        for _, media_type, digest, size, _ in self._database.select(RESOLUTIONS):
            roots |= self._reachable(Descriptor(media_type, Digest(digest), size), layers=False)
        return roots

    def fsck(self) -> tuple[str, ...]:
        """A line for each blob of a stored image that is missing, and that nobody is known to have."""
        out: set[str] = set()
        for image in self.list():
            for digest in self._reachable(image.target, layers=True):
                if not self._content.has(digest) and not self.sources(digest):
                    out.add(f"image {image.ref}: blob {digest} is missing")
        return tuple(sorted(out))

    def _reachable(self, target: Descriptor, *, layers: bool) -> set[Digest]:
        found = {target.digest}
        try:
            for document in self._documents(target, image_only=False):
                if isinstance(document, manifests.Index):
                    found.update(entry.descriptor.digest for entry in document.entries)
                else:
                    found.add(document.config.digest)
                    found.update(layer.digest for layer in document.layers if layers)
        except PybuildError:
            pass  # damaged: nothing of it can be used, so nothing below it need be kept
        return found

    def _documents(
        self, target: Descriptor, depth: int = 0, *, image_only: bool = True
    ) -> Iterator[manifests.Index | manifests.Manifest]:
        """The document and those below it that are here: an index of a registry is seldom complete.

        ``image_only`` leaves out attestations.
        """
        data = self._content.read(target.digest, manifests.MAX_MANIFEST)
        document = manifests.parse(data, target.media_type, what=f"manifest {target.digest}", image_only=image_only)
        yield document
        if isinstance(document, manifests.Index) and depth < _MAX_DEPTH:
            for entry in document.entries:
                if not (image_only and entry.attestation) and self._content.has(entry.descriptor.digest):
                    yield from self._documents(entry.descriptor, depth + 1, image_only=image_only)

    def _created(self, config: Descriptor) -> str:
        try:
            return fields.read(self._content.read(config.digest, manifests.MAX_CONFIG)).time("created")
        except ValueError as e:
            raise IntegrityError(f"image config {config.digest} is malformed: {e}") from e
        except NotFoundError:
            return ""


def _tagged(ref: Reference) -> Reference:
    """The name of a row: always with a tag (``latest`` where none is said), never with a digest."""
    return Reference(ref.registry, ref.repository, ref.tag or "latest")


def _checked(row: Any) -> tuple[str, str, Digest, int, str, int, int]:
    """A row out of ROOT/images.json; ValueError or TypeError for one that is none."""
    name, media_type, digest, manifest_size, created, size, stored_at_ns = row
    parsed = (str(Reference.parse(str(name))), str(media_type), Digest.parse(str(digest)), int(manifest_size))
    return (*parsed, str(created), int(size), int(stored_at_ns))


def _image(row: Row) -> StoredImage:
    name, media_type, digest, manifest_size, created, size, stored_at_ns = row
    return StoredImage(Reference.parse(name), Descriptor(media_type, Digest(digest), manifest_size), created, size, stored_at_ns)

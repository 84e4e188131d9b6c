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
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from builder.errors import IntegrityError, NotFoundError, PybuildError
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest
from builder.oci.reference import Reference
from builder.state.atomic import replacing
from builder.values import dataclass

if TYPE_CHECKING:
    import sqlite3

    from builder.content.store import ContentStore
    from builder.state.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    name TEXT PRIMARY KEY, media_type TEXT NOT NULL, digest TEXT NOT NULL, manifest_size INTEGER NOT NULL,
    created TEXT NOT NULL, size INTEGER NOT NULL, stored_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resolutions (
    name TEXT PRIMARY KEY, media_type TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, resolved_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_sources (
    digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
"""
_SOURCES = "SELECT digest, repository FROM blob_sources"
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class StoredImage:
    """``created`` is RFC 3339 as the config has it, or empty; ``size`` the bytes of configs and layer blobs of all platforms;
    ``stored_at`` in seconds since the epoch."""

    ref: Reference
    target: Descriptor
    created: str
    size: int
    stored_at: float


class ImageStore:
    """A view on the tables; cheap to make, safe for threads and processes."""

    def __init__(self, database: Database, content: ContentStore, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._content = content
        self._clock = clock
        database.schema(_SCHEMA)

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
            c.execute(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?)",
                (str(image.ref), target.media_type, target.digest, target.size, created, size, image.stored_at),
            )
            self._repeat(c)
        return image

    def get(self, ref: Reference) -> StoredImage | None:
        """The image with that name and tag; with a digest in ``ref`` only if it is that one."""
        row = self._database.connection().execute("SELECT * FROM images WHERE name = ?", (str(_tagged(ref)),)).fetchone()
        image = None if row is None else _image(row)
        if image is not None and ref.digest and image.target.digest != ref.digest:
            return None
        return image

    def list(self) -> tuple[StoredImage, ...]:
        """All, the newest first."""
        rows = self._database.connection().execute("SELECT * FROM images ORDER BY stored_at DESC, name").fetchall()
        return tuple(_image(row) for row in rows)

    def remove(self, ref: Reference) -> bool:
        """Take the name away; the blobs go with the next prune. False if there was no such image."""
        with self._database.transaction() as c:
            removed = bool(c.execute("DELETE FROM images WHERE name = ?", (str(_tagged(ref)),)).rowcount)
            self._repeat(c)
        return removed

    def _repeat(self, c: sqlite3.Connection) -> None:
        """Write ROOT/images.json, in the transaction that changes names: one writer at a time. An old one must not stay: after a
        loss of the database it would give a name to the image that had it before."""
        path = self._content.layout.path("images.json")
        names = {"images": c.execute("SELECT * FROM images").fetchall(), "sources": c.execute(_SOURCES).fetchall()}
        try:
            with replacing(path, sync=False, scratch=self._content.layout.tmp) as write:
                write(json.dumps(names).encode())
        except OSError:
            if os.path.lexists(path):
                os.unlink(path)

    def restore(self) -> int:
        """Name again what ROOT/images.json names, as far as every blob is here or in a known repository; gives the number."""
        try:
            with open(self._content.layout.path("images.json"), encoding="utf-8") as file:
                names = json.load(file)
            sources = [(Digest.parse(d), str(Reference.parse(name))) for d, name in names["sources"]]
            rows = [(str(Reference.parse(row[0])), str(row[1]), Digest.parse(row[2]), *row[3:]) for row in names["images"]]
            elsewhere = {digest for digest, _ in sources}
            whole = [row for row in rows if self._is_whole(Descriptor(*row[1:4]), elsewhere)]
            with self._database.transaction() as c:
                c.executemany("INSERT OR IGNORE INTO blob_sources VALUES (?, ?)", sources)
                c.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", whole)
        except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError, PybuildError):
            return 0  # no file, or as damaged as the database
        return len(whole)

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
            c.execute(
                "INSERT OR REPLACE INTO resolutions VALUES (?, ?, ?, ?, ?)",
                (str(_tagged(ref)), target.media_type, target.digest, target.size, self._clock()),
            )

    def recall(self, ref: Reference) -> Descriptor | None:
        """What ``ref`` was when a registry was asked last; None if it never was, or its manifest is gone."""
        query = "SELECT media_type, digest, size FROM resolutions WHERE name = ?"
        row = self._database.connection().execute(query, (str(_tagged(ref)),)).fetchone()
        if row is None:
            return None
        target = Descriptor(row[0], Digest(row[1]), row[2])
        try:
            self._content.read(target.digest, manifests.MAX_MANIFEST)
        except (NotFoundError, IntegrityError):
            return None
        return target

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
                c.executemany("INSERT OR IGNORE INTO blob_sources VALUES (?, ?)", rows)

    def sources(self, digest: Digest) -> tuple[Reference, ...]:
        """Repositories that are known to have the blob, in order of their names."""
        query = "SELECT repository FROM blob_sources WHERE digest = ? ORDER BY repository"
        rows = self._database.connection().execute(query, (digest,)).fetchall()
        return tuple(Reference.parse(name) for (name,) in rows)

    def _known(self, rows: Iterable[tuple[Digest, str]]) -> bool:
        query = "SELECT 1 FROM blob_sources WHERE digest = ? AND repository = ?"
        return all(self._database.connection().execute(query, row).fetchone() for row in rows)

    # ------------------------------------------------------------------------------------------------ gc
    def gc_roots(self) -> set[Digest]:
        """Blobs that gc must keep: all of a named image, manifests and configs of what is remembered."""
        roots: set[Digest] = set()
        for image in self.list():
            roots |= self._reachable(image.target, layers=True)
        query = "SELECT media_type, digest, size FROM resolutions"
        for media_type, digest, size in self._database.connection().execute(query).fetchall():
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
            created = json.loads(self._content.read(config.digest, manifests.MAX_CONFIG)).get("created")
        except (ValueError, AttributeError, RecursionError) as e:
            raise IntegrityError(f"image config {config.digest} is malformed") from e
        except NotFoundError:
            return ""
        return created if isinstance(created, str) else ""


def gc_roots(database: Database, content: ContentStore) -> set[Digest]:
    """``ImageStore.gc_roots`` as a root of the cache manager: it only reads, also where no image was ever stored."""
    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('images', 'resolutions', 'blob_sources')"
    if database.connection().execute(query).fetchone()[0] < 3:
        return set()
    return ImageStore(database, content).gc_roots()


def _tagged(ref: Reference) -> Reference:
    """The name of a row: always with a tag (``latest`` where none is said), never with a digest."""
    return Reference(ref.registry, ref.repository, ref.tag or "latest")


def _image(row: tuple[str, str, str, int, str, int, float]) -> StoredImage:
    name, media_type, digest, manifest_size, created, size, stored_at = row
    return StoredImage(Reference.parse(name), Descriptor(media_type, Digest(digest), manifest_size), created, size, stored_at)

"""Images as every builder's archive describes them: OCI layouts (folder or archive) and ``docker save`` archives.

OCI image-spec v1.1: config.md (configuration, history), layer.md (whiteouts, opaque folders). Layers are applied to a tree of
names in memory, in order; their contents are hashed, never written. Damaged archives raise CompareError.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from builder.compare.types import CompareError
from builder.content.compression import decompress
from builder.errors import LayerError
from builder.files.tar import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry, TarReader
from builder.oci.digest import Digest, Running
from builder.text.paths import clean, rooted
from builder.values import dataclass, field

_TYPES = {REG: "file", DIR: "directory", SYMLINK: "symlink", CHAR: "char", BLOCK: "block", FIFO: "fifo"}
_PIECE = 1 << 20
_WHITEOUT, _OPAQUE, _AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."


@dataclass(frozen=True, slots=True)
class File:
    """One name of the flattened root filesystem. ``mtime`` in nanoseconds; ``size`` and ``digest`` of regular files only.

    ``link`` is a symlink's target. ``same`` is the first name of the inode if it has several (hard links), else empty.
    """

    type: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    digest: str = ""
    link: str = ""
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[str, str], ...] = ()
    same: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A history entry."""

    created_by: str = ""
    comment: str = ""
    author: str = ""
    created: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What a layer touches: names of its members, whiteouts among them as they are written (``/a/.wh.b``)."""

    diff_id: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Image:
    """``config`` is the image's configuration without history and rootfs, flattened: ``config.Labels["a"]`` -> value."""

    config: Mapping[str, object]
    history: tuple[Step, ...]
    layers: tuple[LayerNames, ...]
    files: Mapping[str, File]


def read_image(path: str, scratch: str) -> Image:
    """The one image in an archive or OCI layout folder; archives are unpacked below the empty folder ``scratch``."""
    try:
        members = _Folder(path) if os.path.isdir(path) else _unpack(path, scratch)
        config, layers = _oci(members) if members.has("index.json") else _docker(members)
        return _image(config, layers)
    except LayerError as e:
        raise CompareError(f"{path}: {e}") from e
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise CompareError(f"{path} is no image archive: {type(e).__name__}: {e}") from e


class _Folder:
    """The members of an archive, on disk."""

    def __init__(self, root: str, links: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._links = links or {}

    def has(self, name: str) -> bool:
        return os.path.isfile(self._path(name))

    def read(self, name: str) -> bytes:
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        path = self._path(name)
        if not os.path.isfile(path):
            raise CompareError(f"the archive has no {name}")
        with open(path, "rb") as f:
            while chunk := f.read(_PIECE):
                yield chunk

    def blob(self, digest: str) -> bytes:
        data = self.read(_blob_name(digest))
        if Digest.of(data) != digest:
            raise CompareError(f"blob {digest} does not match its digest")
        return data

    def _path(self, name: str) -> str:
        name = clean(name)
        # docker save before 25 stores a layer that comes twice as a symlink to the first; one step is all it ever needs.
        return os.path.join(self._root, self._links.get(name, name))


def _unpack(path: str, scratch: str) -> _Folder:
    """Regular files under numbered names: a member's name never becomes a path on this machine."""
    links: dict[str, str] = {}
    symlinks: dict[str, str] = {}
    with open(path, "rb") as archive:
        reader = TarReader(iter(lambda: archive.read(_PIECE), b""))
        for number, entry in enumerate(reader):
            name = clean(entry.name).lstrip("/")
            if entry.type == REG:
                links[name] = str(number)
                with open(os.path.join(scratch, str(number)), "wb") as out:
                    for chunk in reader.data():
                        out.write(chunk)
            elif entry.type == SYMLINK:
                symlinks[name] = clean(posixpath.join(posixpath.dirname(name), entry.linkname))
            elif entry.type == LINK:
                symlinks[name] = clean(entry.linkname)
    links.update((name, links[target]) for name, target in symlinks.items() if target in links)
    return _Folder(scratch, links)


def _blob_name(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    if algorithm != "sha256" or len(encoded) != 64 or not encoded.isalnum():
        raise CompareError(f"unsupported digest {digest!r}")
    return f"blobs/{algorithm}/{encoded}"


_Layers = list[Iterator[bytes]]


def _oci(members: _Folder) -> tuple[dict[str, Any], _Layers]:
    queue = list(json.loads(members.read("index.json"))["manifests"])
    found: dict[str, dict[str, Any]] = {}
    while queue:
        descriptor = queue.pop(0)
        if (descriptor.get("annotations") or {}).get("vnd.docker.reference.type"):
            continue  # an attestation, no image
        manifest = json.loads(members.blob(descriptor["digest"]))
        if "manifests" in manifest:
            queue += manifest["manifests"]
        else:
            found[descriptor["digest"]] = manifest
    if len(found) != 1:
        raise CompareError(f"the archive holds {len(found)} images; one is compared", hint="name one --platform")
    manifest = next(iter(found.values()))
    config = json.loads(members.blob(manifest["config"]["digest"]))
    return config, [members.chunks(_blob_name(layer["digest"])) for layer in manifest.get("layers") or ()]


def _docker(members: _Folder) -> tuple[dict[str, Any], _Layers]:
    images = json.loads(members.read("manifest.json"))
    if len(images) != 1:
        raise CompareError(f"the archive holds {len(images)} images; one is compared")
    config = json.loads(members.read(images[0]["Config"]))
    return config, [members.chunks(name) for name in images[0].get("Layers") or ()]


def _image(config: dict[str, Any], blobs: _Layers) -> Image:
    history = tuple(_step(h) for h in config.pop("history", None) or ())
    diff_ids = (config.pop("rootfs", None) or {}).get("diff_ids") or []
    if len(diff_ids) != len(blobs):
        raise CompareError(f"{len(diff_ids)} diff_ids for {len(blobs)} layers")
    tree: dict[str, _Node] = {}
    layers = []
    for diff_id, blob in zip(diff_ids, blobs, strict=True):
        content = _Hashed(decompress(blob))
        names = _apply(tree, TarReader(content))
        if content.digest() != diff_id:
            raise CompareError(f"layer {diff_id} does not match its diff_id: its content is {content.digest()}")
        layers.append(LayerNames(diff_id, frozenset(names)))
    return Image(dict(_flat("", config)), history, tuple(layers), _files(tree))


def _step(entry: dict[str, Any]) -> Step:
    texts = {key: entry.get(key) or "" for key in ("created_by", "comment", "author", "created")}
    return Step(**texts, empty_layer=bool(entry.get("empty_layer")))


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    """Leaves of a JSON document; lists are leaves, their order means something. Empty objects are leaves too."""
    if not isinstance(value, dict) or not value:
        yield prefix, value
        return
    for key, item in sorted(value.items()):
        plain = key.replace("_", "").isalnum() and prefix != "config.Labels"
        yield from _flat((f"{prefix}.{key}" if prefix else key) if plain else f"{prefix}[{json.dumps(key)}]", item)


class _Hashed:
    """Chunks, hashed as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._running = Running()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._running.update(chunk)
            yield chunk

    def digest(self) -> str:
        return self._running.digest()


@dataclass(slots=True, eq=False)
class _Node:
    """An inode; names that are hard links share it."""

    entry: Entry
    digest: str = ""
    names: list[str] = field(default_factory=list)


def _apply(tree: dict[str, _Node], layer: TarReader) -> set[str]:
    """Lay a layer over the tree; the names it holds. What a whiteout hides is what lower layers brought, whatever the order."""
    names: set[str] = set()
    lower = set(tree)
    for entry in layer:
        path = rooted(entry.name)
        folder, name = posixpath.split(path)
        names.add(path)
        if name == _OPAQUE:
            _remove(tree, folder, lower - {folder})
        elif name.startswith(_AUFS):
            continue  # aufs' own files (layer.md: reserved); not content
        elif name.startswith(_WHITEOUT):
            _remove(tree, posixpath.join(folder, name.removeprefix(_WHITEOUT)), lower)
        else:
            _put(tree, path, entry, layer)
            lower.discard(path)
    return names


def _put(tree: dict[str, _Node], path: str, entry: Entry, layer: TarReader) -> None:
    if entry.type == LINK:
        target = rooted(entry.linkname)
        if target not in tree:
            raise CompareError(f"hard link {path} to {target}, which is not there")
        node = tree[target]
    else:
        node = _Node(entry)
    if entry.type == REG:
        content = Running()
        for chunk in layer.data():
            content.update(chunk)
        node.digest = content.digest()
    old = tree.get(path)
    if old is not None and old.entry.type == DIR and node.entry.type != DIR:
        _remove(tree, path, set(tree))
    tree[path] = node


def _remove(tree: dict[str, _Node], top: str, among: set[str]) -> None:
    below = top.rstrip("/") + "/"
    for path in [p for p in among if p == top or p.startswith(below)]:
        tree.pop(path, None)
        among.discard(path)


def _files(tree: dict[str, _Node]) -> dict[str, File]:
    for path, node in sorted(tree.items()):
        node.names.append(path)
    return {path: _file(node) for path, node in sorted(tree.items())}


def _file(node: _Node) -> File:
    e = node.entry
    return File(
        type=_TYPES[e.type],
        mode=e.mode,
        uid=e.uid,
        gid=e.gid,
        mtime=e.mtime_ns,
        size=e.size if e.type == REG else 0,
        digest=node.digest,
        link=e.linkname if e.type == SYMLINK else "",
        device=(e.devmajor, e.devminor) if e.type in (CHAR, BLOCK) else None,
        xattrs=tuple(sorted((name, value.hex()) for name, value in e.xattrs.items())),
        same=node.names[0] if len(node.names) > 1 else "",
    )

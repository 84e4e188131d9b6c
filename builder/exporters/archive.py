"""Images as files: OCI layout in a tar or a folder, and the archive that ``docker load`` takes.

The records are those of containerd's archive exporter: members in the order of their names, no times, no owners.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from builder.errors import UsageError
from builder.exporters.image import WrittenImage
from builder.oci.documents import OCI_INDEX, descriptor_json
from builder.oci.manifest import MAX_MANIFEST
from builder.oci.reference import Reference
from builder.state.atomic import replacing
from builder.text import gojson
from builder.values import dataclass, replace
from runtime.errors import UnsafePathError
from runtime.linux.named import read_named

if TYPE_CHECKING:
    from builder.content.store import ContentStore

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    mode: int
    size: int
    chunks: Callable[[], Iterator[bytes]]


def dated(image: WrittenImage, created: str) -> WrittenImage:
    """``image`` with the time (RFC 3339) of its making at where it is listed, as BuildKit's exporters of archives have it."""
    annotations = {"org.opencontainers.image.created": created, **dict(image.top.annotations)}
    return replace(image, top=replace(image.top, annotations=tuple(annotations.items())))


def write_oci_tar(
    content: ContentStore, image: WrittenImage, names: Sequence[Reference], write: Callable[[bytes], object]
) -> None:
    """An OCI layout as a tar stream."""
    index = _index(image, names)
    _write_tar([*_blobs(content, image), _data("index.json", 0o644, index), _data("oci-layout", 0o444, _LAYOUT)], write)


def write_docker_tar(
    content: ContentStore, image: WrittenImage, names: Sequence[Reference], write: Callable[[bytes], object]
) -> None:
    """An OCI layout with docker's manifest.json beside it, for ``docker load``."""
    if len(image.manifests) > 1:
        raise UsageError("docker exporter does not currently support exporting manifest lists", hint="use type=oci")
    only = image.manifests[0]
    manifest = [
        {
            "Config": _blob_name(only.config.digest),
            "RepoTags": [n.familiar for n in names] or None,
            "Layers": [_blob_name(d.digest) for d in only.layers],
        }
    ]
    docker = _data("manifest.json", 0o444, gojson.encode(manifest))
    index = _data("index.json", 0o644, _index(image, names))
    _write_tar([*_blobs(content, image), index, docker, _data("oci-layout", 0o444, _LAYOUT)], write)


def write_oci_folder(content: ContentStore, image: WrittenImage, names: Sequence[Reference], dest: str) -> None:
    """An OCI layout as a folder; one that is there gets the image added, and its tags moved."""
    os.makedirs(os.path.join(dest, "blobs", "sha256"), exist_ok=True)
    for member in _blobs(content, image):
        path = os.path.join(dest, member.name)
        if not os.path.exists(path):
            _write_file(path, member.chunks())
    doc = json.loads(_index(image, names))
    doc["manifests"] = _merge(_read_manifests(dest), doc["manifests"])
    _write_file(os.path.join(dest, "oci-layout"), iter([_LAYOUT]))
    _write_file(os.path.join(dest, "index.json"), iter([gojson.encode(doc)]))


def _read_manifests(dest: str) -> list[dict[str, Any]]:
    try:
        doc = json.loads(read_named(os.path.join(dest, "index.json"), MAX_MANIFEST))
    except FileNotFoundError:
        return []
    except (ValueError, UnsafePathError) as e:
        raise UsageError(f"{dest} has an index.json that is not one of an OCI layout: {e}") from e
    except RecursionError:
        raise UsageError(f"{dest} has an index.json that is not one of an OCI layout: it is nested too deeply") from None
    found = doc.get("manifests") if isinstance(doc, dict) else None
    if not isinstance(found, list) or not all(isinstance(d, dict) and isinstance(d.get("annotations") or {}, dict) for d in found):
        raise UsageError(f"{dest} has an index.json that is not one of an OCI layout")
    return found


def _merge(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def name(d: dict[str, Any]) -> str | None:
        value: str | None = (d.get("annotations") or {}).get("org.opencontainers.image.ref.name")
        return value

    taken = {name(d) for d in new}
    return [d for d in old if name(d) not in taken] + new


def _index(image: WrittenImage, names: Sequence[Reference]) -> bytes:
    """index.json: the image once for each name."""
    entries = []
    for name in names or (None,):
        annotations = dict(image.top.annotations)
        if name is not None:
            annotations |= {"io.containerd.image.name": str(name), "org.opencontainers.image.ref.name": name.tag}
        entries.append(descriptor_json(replace(image.top, annotations=tuple(annotations.items())), image.platform))
    return gojson.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _blobs(content: ContentStore, image: WrittenImage) -> list[_Member]:
    def member(d: Any) -> _Member:
        document = image.documents.get(d.digest)
        if document is not None:
            return _data(_blob_name(d.digest), 0o444, document)
        return _Member(_blob_name(d.digest), 0o444, d.size, lambda: content.checked(d.digest))

    return sorted((member(d) for d in image.blobs()), key=lambda m: m.name)


def _data(name: str, mode: int, data: bytes) -> _Member:
    return _Member(name, mode, len(data), lambda: iter([data]))


def _write_tar(members: list[_Member], write: Callable[[bytes], object]) -> None:
    from builder.files.tar.entry import DIR, Entry
    from builder.files.tar.writer import TarWriter

    tar = TarWriter(write)
    for folder in ("blobs/", "blobs/sha256/"):
        tar.add(Entry(folder, DIR, 0o755))
    for m in members:
        tar.add(Entry(m.name, mode=m.mode, size=m.size), m.chunks())
    tar.close()


def _write_file(path: str, chunks: Iterator[bytes]) -> None:
    with replacing(path) as write:
        for chunk in chunks:
            write(chunk)

"""Images as files: OCI layout in a tar or a folder, and the archive that ``docker load`` takes.

The records are those of containerd's archive exporter: members in the order of their names, no times, no owners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from builder.content.layout import IMAGE_NAME, LAYOUT, REF_NAME, Entry, LayoutFolder, blob_name
from builder.errors import UsageError
from builder.exporters.image import WrittenImage
from builder.oci.documents import OCI_INDEX, descriptor_json
from builder.oci.reference import Reference
from builder.text import gojson
from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.content.store import ContentStore


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
    _write_tar([*_blobs(content, image), _data("index.json", 0o644, index), _data("oci-layout", 0o444, LAYOUT)], write)


def write_docker_tar(
    content: ContentStore, image: WrittenImage, names: Sequence[Reference], write: Callable[[bytes], object]
) -> None:
    """An OCI layout with docker's manifest.json beside it, for ``docker load``."""
    if len(image.manifests) > 1:
        raise UsageError("docker exporter does not currently support exporting manifest lists", hint="use type=oci")
    only = image.manifests[0]
    manifest = [
        {
            "Config": blob_name(only.config.digest),
            "RepoTags": [n.familiar for n in names] or None,
            "Layers": [blob_name(d.digest) for d in only.layers],
        }
    ]
    docker = _data("manifest.json", 0o444, gojson.encode(manifest))
    index = _data("index.json", 0o644, _index(image, names))
    _write_tar([*_blobs(content, image), index, docker, _data("oci-layout", 0o444, LAYOUT)], write)


def write_oci_folder(content: ContentStore, image: WrittenImage, names: Sequence[Reference], dest: str) -> None:
    """An OCI layout as a folder; one that is there gets the image added, and its tags moved."""
    layout = LayoutFolder(dest)
    for descriptor in image.blobs():
        document = image.documents.get(descriptor.digest)
        layout.put(descriptor, content.checked(descriptor.digest) if document is None else [document])
    entries = _entries(image, names)
    taken = {_tag(entry) for entry in entries}
    layout.publish(entries, lambda other: _tag(other) not in taken)


def _tag(entry: Entry) -> str | None:
    value: str | None = (entry.get("annotations") or {}).get(REF_NAME)
    return value


def _index(image: WrittenImage, names: Sequence[Reference]) -> bytes:
    return gojson.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": _entries(image, names)})


def _entries(image: WrittenImage, names: Sequence[Reference]) -> list[Entry]:
    """What index.json lists: the image once for each name."""
    entries = []
    for name in names or (None,):
        annotations = dict(image.top.annotations)
        if name is not None:
            annotations |= {IMAGE_NAME: str(name), REF_NAME: name.tag}
        entries.append(descriptor_json(replace(image.top, annotations=tuple(annotations.items())), image.platform))
    return entries


def _blobs(content: ContentStore, image: WrittenImage) -> list[_Member]:
    def member(d: Any) -> _Member:
        document = image.documents.get(d.digest)
        if document is not None:
            return _data(blob_name(d.digest), 0o444, document)
        return _Member(blob_name(d.digest), 0o444, d.size, lambda: content.checked(d.digest))

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

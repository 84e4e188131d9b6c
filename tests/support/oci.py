"""Writing a small OCI layout by hand, and reading one back: neither uses a line of pybuild."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from builder.values import dataclass

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Entry:
    """A member of a layer to write; ``data`` None is a folder."""

    path: str
    data: bytes | None = None
    mode: int = 0o644
    link: str = ""
    uid: int = 0


def layer_tar(entries: Sequence[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for e in entries:
            info = tarfile.TarInfo(e.path)
            info.mode, info.uid, info.gid = e.mode, e.uid, e.uid
            if e.link:
                info.type, info.linkname = tarfile.SYMTYPE, e.link
            elif e.data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(e.data)
            tar.addfile(info, io.BytesIO(e.data or b""))
    return out.getvalue()


def write_layout(
    folder: str, layers: Sequence[bytes], config: Mapping[str, Any], tag: str = "latest", *, architecture: str = ""
) -> str:
    """An OCI layout of uncompressed layer tars, gzipped on the way; gives ``folder``. ``architecture`` "": this machine's."""
    blobs = os.path.join(folder, "blobs", "sha256")
    os.makedirs(blobs)

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    document = {
        "architecture": architecture or ("amd64" if os.uname().machine == "x86_64" else "arm64"),
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"layer {n}"} for n in range(len(layers))],
        "created": "2024-01-01T00:00:00Z",
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(json.dumps(document).encode(), CONFIG),
        "layers": [blob(gzip.compress(data, 1, mtime=0), LAYER + "+gzip") for data in layers],
    }
    top = blob(json.dumps(manifest).encode(), MANIFEST) | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    _write(os.path.join(folder, "index.json"), json.dumps({"schemaVersion": 2, "manifests": [top]}))
    _write(os.path.join(folder, "oci-layout"), '{"imageLayoutVersion": "1.0.0"}')
    return folder


@dataclass(frozen=True)
class File:
    """What a path of an image is: the tar member's fields and, for a regular file, its bytes."""

    info: tarfile.TarInfo
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def mode(self) -> int:
        return self.info.mode & 0o7777

    @property
    def owner(self) -> tuple[int, int]:
        return self.info.uid, self.info.gid


@dataclass(frozen=True)
class Image:
    """An image read back whole; every blob was compared with its digest and size."""

    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[bytes, ...]
    """Uncompressed tars, bottom first."""

    @property
    def layer_digests(self) -> list[str]:
        return [d["digest"] for d in self.manifest["layers"]]

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config["rootfs"]["diff_ids"])

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that containers see: Env, Cmd..."""
        return dict(self.config["config"])

    @property
    def env(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.settings["Env"])

    def files(self) -> dict[str, File]:
        """All layers laid over one another, by path without a leading slash (image-spec, layer.md)."""
        out: dict[str, File] = {}
        for layer in self.layers:
            whole, fresh = _members(layer)
            for path in whole:
                folder, name = os.path.split(path)
                if name == ".wh..wh..opq":
                    _remove_below(out, folder)
                elif name.startswith(".wh."):
                    gone = os.path.join(folder, name[4:])
                    out.pop(gone, None)
                    _remove_below(out, gone)
            for path, file in fresh.items():
                if not file.info.isdir():
                    _remove_below(out, path)
                out[path] = file
        return out


def read_image(path: str | os.PathLike[str]) -> Image:
    """The one image of an OCI layout: a folder or a tar archive."""
    read = _reader(str(path))
    index = json.loads(read("index.json"))
    assert json.loads(read("oci-layout"))["imageLayoutVersion"] == "1.0.0"
    (descriptor,) = index["manifests"]

    def blob(d: Mapping[str, Any]) -> bytes:
        algorithm, _, value = d["digest"].partition(":")
        data = read(f"blobs/{algorithm}/{value}")
        assert len(data) == d["size"]
        assert hashlib.new(algorithm, data).hexdigest() == value
        return data

    manifest = json.loads(blob(descriptor))
    config = json.loads(blob(manifest["config"]))
    layers = tuple(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in map(blob, manifest["layers"]))
    assert [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers] == config["rootfs"]["diff_ids"]
    assert sum(not h.get("empty_layer") for h in config.get("history", ())) == len(layers)
    return Image(manifest, config, layers)


def tar_files(data: bytes) -> dict[str, File]:
    """The members of one tar by path."""
    return _members(data)[1]


def _members(layer: bytes) -> tuple[list[str], dict[str, File]]:
    """(paths of whiteouts, everything else)."""
    whiteouts: list[str] = []
    files: dict[str, File] = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for info in tar:
            path = info.name.strip("/").removeprefix("./")
            if os.path.basename(path).startswith(".wh."):
                whiteouts.append(path)
                continue
            f = tar.extractfile(info) if info.isfile() or info.islnk() else None
            files[path] = File(info, f.read() if f is not None else b"")
    return whiteouts, files


def _remove_below(files: dict[str, File], folder: str) -> None:
    for path in [p for p in files if p.startswith(folder + "/")]:
        del files[path]


def _reader(path: str) -> Callable[[str], bytes]:
    if os.path.isdir(path):

        def from_folder(name: str) -> bytes:
            with open(os.path.join(path, name), "rb") as f:
                return f.read()

        return from_folder
    with tarfile.open(path) as tar:
        content = {m.name: f.read() for m in tar if (f := tar.extractfile(m)) is not None}
    return content.__getitem__


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)

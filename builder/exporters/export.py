"""One ``--output`` from beginning to end: the way from a solved build to the thing that was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import DamagedBlobError, UsageError
from builder.exporters.types import IMAGE_TYPES, BuildOutput, OutputSpec
from builder.oci.digest import Digest, digest_parts
from builder.oci.reference import Reference
from builder.progress.events import Sink, Status, VertexCompleted, VertexKnown, VertexStarted
from builder.state import trace
from builder.values import replace

if TYPE_CHECKING:
    from builder.exporters.image import WrittenImage
    from builder.oci.platform import Platform
    from builder.worker import Worker

_TITLES = {
    "image": "exporting to image",
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
}


def check_outputs(specs: Sequence[OutputSpec], *, multi: bool) -> None:
    """Refuse what can't work before the build begins: a wrong key should not cost a build."""
    for spec in specs:
        check_output(spec, multi=multi)
    if sum(spec.is_archive and spec.dest in ("", "-") for spec in specs) > 1:
        raise UsageError("multiple outputs configured to write to stdout")


def check_output(spec: OutputSpec, *, multi: bool) -> None:
    """The same of one output."""
    from builder.exporters.annotations import parse_attribute
    from builder.exporters.files import FILES_KEYS
    from builder.exporters.image import IMAGE_KEYS, ImageOptions

    spec.epoch(None)
    spec.names()
    if spec.is_archive or spec.is_folder:
        from builder.exporters.sink import check_file, check_folder

        if spec.is_archive:
            check_file(spec.dest)
        else:
            check_folder(spec.dest, spec.type)
    if spec.type == "cacheonly":
        spec.values.refuse_unknown(frozenset())
    elif spec.type in ("local", "tar"):
        spec.values.refuse_unknown(FILES_KEYS)
    else:
        extra = {"oci": {"tar"}, "docker": {"tar"}, "image": {"push", "push-by-digest", "store", "unpack"}}[spec.type]
        unannotated = OutputSpec(spec.type, spec.dest, tuple((k, v) for k, v in spec.attrs if parse_attribute(k) is None))
        unannotated.values.refuse_unknown(IMAGE_KEYS | extra)
        ImageOptions.of(spec, oci_default=True)
        if spec.type == "docker" and multi:
            raise UsageError("docker exporter does not currently support exporting manifest lists", hint="use type=oci")


def check_platforms(specs: Sequence[OutputSpec], platforms: Sequence[Platform], *, multi: bool) -> tuple[str, ...]:
    """Refuse annotations that the result, once its platforms are known, has no document for. Gives warnings of those that are
    written nowhere."""
    warnings: dict[str, None] = {}
    for spec in specs:
        if spec.type in IMAGE_TYPES:
            from builder.exporters.image import ImageOptions

            options = ImageOptions.of(spec, oci_default=True)
            options.annotations.check(platforms, multi=multi, oci=options.compression.oci_media_types)
            for platform in options.annotations.missing(platforms):
                warnings[f"annotations of {platform} are written nowhere: nothing is built for it"] = None
    return tuple(warnings)


def export(worker: Worker, output: BuildOutput, spec: OutputSpec, tags: Sequence[Reference], sink: Sink) -> WrittenImage | None:
    """Write one output, telling progress as a vertex of its own. Gives the image, where the output is one."""
    if spec.type == "cacheonly":
        return None
    output = replace(output, epoch=spec.epoch(output.epoch))
    title = _TITLES[spec.type]
    digest = digest_parts("export", title, spec.dest, str(time.monotonic_ns()))
    steps = _Steps(digest, sink)
    sink(VertexKnown(digest, title))
    sink(VertexStarted(digest, title, time.monotonic()))
    try:
        with trace.span("export", title, dest=spec.dest):
            image = _export_soundly(worker, output, spec, tags, steps)
    except BaseException as e:
        sink(VertexCompleted(digest, title, time.monotonic(), error=str(e) or type(e).__name__))
        raise
    steps.end()
    sink(VertexCompleted(digest, title, time.monotonic()))
    return image


def _export_soundly(
    worker: Worker, output: BuildOutput, spec: OutputSpec, tags: Sequence[Reference], steps: _Steps
) -> WrittenImage | None:
    """A blob of an earlier build that turns out to be damaged is made anew: once more, then, unless half of it is sent already."""
    from builder.exporters.sink import can_begin_anew

    while True:
        try:
            return _export(worker, output, spec, tags, steps)
        except DamagedBlobError as e:
            if spec.is_archive and not can_begin_anew(spec.dest):
                raise
            worker.cache.warn(f"{e}: made anew")


class _Steps:
    """The lines below the exporter's vertex: each ends when the next begins."""

    def __init__(self, digest: Digest, sink: Sink) -> None:
        self._digest, self._sink, self._open = digest, sink, ""

    def __call__(self, text: str) -> None:
        self.end()
        self._open = text
        self._sink(Status(self._digest, text, 0, 0, time.monotonic()))

    def end(self) -> None:
        if self._open:
            self._sink(Status(self._digest, self._open, 0, 0, time.monotonic(), completed=True))
            self._open = ""


def _export(worker: Worker, output: BuildOutput, spec: OutputSpec, tags: Sequence[Reference], steps: _Steps) -> WrittenImage | None:
    if spec.type in ("local", "tar"):
        _export_files(output, spec, steps)
        return None
    from builder.exporters.image import ImageOptions, write_image

    names = spec.names() or list(tags)
    image = write_image(worker, output, ImageOptions.of(spec, oci_default=True), steps)
    if spec.type == "image":
        _store(worker, image, names, spec, steps)
    else:
        image = _export_archive(worker, image, names, output, spec, steps)
    return image


def _export_files(output: BuildOutput, spec: OutputSpec, steps: _Steps) -> None:
    from builder.exporters.files import split_by_platform, write_local, write_tar
    from builder.exporters.sink import output_file

    if spec.type == "local":
        steps("copying files")
        write_local(output, split_by_platform(output, spec.get("platform-split")), spec.dest)
    else:
        steps("sending tarball")
        with output_file(spec.dest) as write:
            write_tar(output, write)


def _export_archive(
    worker: Worker, image: WrittenImage, names: list[Reference], output: BuildOutput, spec: OutputSpec, steps: _Steps
) -> WrittenImage:
    """The image as the archive's index lists it."""
    from builder.exporters import archive
    from builder.exporters.sink import output_file
    from builder.text.times import NS, format_rfc3339

    image = archive.dated(image, format_rfc3339((output.epoch if output.epoch is not None else int(time.time())) * NS))
    if spec.type == "oci" and not spec.flag("tar", True):
        steps("copying files")
        archive.write_oci_folder(worker.content, image, names, spec.dest)
        return image
    if not spec.flag("tar", True):
        raise UsageError("--output type=docker,tar=false is not supported", hint="use type=oci,tar=false")
    steps("sending tarball")
    with output_file(spec.dest) as write:
        writer = archive.write_oci_tar if spec.type == "oci" else archive.write_docker_tar
        writer(worker.content, image, names, write)
    return image


def _store(worker: Worker, image: WrittenImage, names: list[Reference], spec: OutputSpec, steps: _Steps) -> None:
    from builder.exporters.store import push_image, store_image

    if spec.flag("store", True):
        for name in names:
            steps(f"naming to {name}")
            store_image(worker, image, name)
    if spec.flag("push", False) or spec.flag("push-by-digest", False):
        if not names:
            raise UsageError("tag is needed when pushing to registry", hint="name the image with -t")
        for name in names:
            steps(f"pushing manifest for {name}")
            push_image(worker, image, name, by_digest=spec.flag("push-by-digest", False))

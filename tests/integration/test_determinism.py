"""Same inputs, same bytes: whoever builds, wherever, whenever, however the files came to be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild
from tests.support.oci import Image, read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]

FILES: dict[str, str | bytes] = {
    "Dockerfile": """FROM base AS one
COPY --chown=app:app tree /tree
WORKDIR /deep/er
COPY --link tree/z /linked/
RUN cp -a /tree /copy && find /deep /copy -exec touch -h -d @1000000000 {} + && touch -d @1000000000 / /copy
FROM base
COPY --from=one /copy /copy
ADD tree/a tree/b /added/
COPY <<EOT /text
heredoc
EOT
""",
    "tree/a": "a",
    "tree/b": "b" * 100_000,
    "tree/sub/c": "c",
    "tree/z": "z",
}


def build(pybuild: Pybuild, folder: str, base: str, out: Path, **more: object) -> Image:
    pybuild.ok("--build-context", f"base=oci-layout://{base}", "-o", f"type=oci,dest={out}", folder, **more)  # type: ignore[arg-type]
    return read_image(out)


def age(folder: str, seconds: int) -> None:
    """Give every file the same time: COPY keeps the times of files, so that they are part of the input."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.utime(os.path.join(parent, name), (seconds, seconds))
    os.utime(folder, (seconds, seconds))


def test_two_empty_roots_give_the_same_layers(
    new_root: Callable[[], Pybuild], context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    """The second build has another root, another umask, locale and time zone, another folder, files written in another order."""
    first, second = context(FILES), context(dict(reversed(FILES.items())))
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    age(first, 1_600_000_000)
    age(second, 1_600_000_000)
    a = build(new_root(), first, busybox_layout, tmp_path / "a.tar", env=epoch)
    old = os.umask(0o077)
    try:
        b = build(
            new_root(),
            second,
            busybox_layout,
            tmp_path / "b.tar",
            env=epoch | {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "USER": "someone"},
        )
    finally:
        os.umask(old)
    changed = {p for p in a.files() if a.files()[p].info.mtime != b.files()[p].info.mtime}
    assert a.files().keys() == b.files().keys()
    # What a step makes without setting a time has the time of the build; nothing else may differ.
    assert changed <= {"", "added", "linked", "text", "deep", "deep/er", "tree"}, changed
    reproducible = [n for n, (x, y) in enumerate(zip(a.diff_ids, b.diff_ids, strict=True)) if x == y]
    assert 3 in reproducible, "the copy of files with times of their own"


def test_rewritten_timestamps_make_whole_images_equal(
    new_root: Callable[[], Pybuild], context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    images = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.tar"
        new_root().ok(
            "--build-context", f"base=oci-layout://{busybox_layout}", "-o", f"type=oci,dest={out},rewrite-timestamp=true",
            context(FILES), env={"SOURCE_DATE_EPOCH": "1700000000"},
        )  # fmt: skip
        images.append(out)
    assert read_image(images[0]).manifest == read_image(images[1]).manifest
    assert images[0].read_bytes() == images[1].read_bytes()


def test_a_cached_layer_is_the_layer(pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path) -> None:
    folder = context(FILES)
    first = build(pybuild, folder, busybox_layout, tmp_path / "a.tar")
    assert build(pybuild, folder, busybox_layout, tmp_path / "b.tar").layer_digests == first.layer_digests


def test_base_layers_keep_their_digests(pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path) -> None:
    base = read_image(busybox_layout)
    image = build(pybuild, context({"Dockerfile": "FROM base\nRUN touch /x\n"}), busybox_layout, tmp_path / "i.tar")
    assert image.layer_digests[:3] == base.layer_digests

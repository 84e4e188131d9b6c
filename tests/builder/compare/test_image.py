"""What an archive says an image is."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.compare import CompareError, Image, read_image
from builder.files.tar import CHAR, DIR, LINK, REG, SYMLINK, TarWriter
from builder.files.tar import Entry as Member
from tests.support.oci import write_layout


def layer(*members: tuple[Member, bytes] | Member) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for member in members:
        entry, data = member if isinstance(member, tuple) else (member, b"")
        entry.size = len(data)
        writer.add(entry, [data] if data else ())
    writer.close()
    return out.getvalue()


def text(path: str, content: str = "x", **fields: Any) -> tuple[Member, bytes]:
    return Member(path, REG, **fields), content.encode()


def folder(path: str, **fields: Any) -> Member:
    return Member(path + "/", DIR, 0o755, **fields)


def image(tmp_path: Path, *layers: bytes, config: dict[str, Any] | None = None) -> Image:
    return read_image(write_layout(str(tmp_path / "layout"), list(layers), config or {}), str(tmp_path))


def names(tmp_path: Path, *layers: bytes) -> list[str]:
    return sorted(image(tmp_path, *layers).files)


def test_a_file_has_all_that_stat_tells(tmp_path: Path) -> None:
    entry = Member("a", REG, 0o4751, 3, 4, mtime_ns=5_000_000_000, xattrs={"security.capability": b"\x01\x02", "user.a": b""})
    file = image(tmp_path, layer((entry, b"abc"))).files["/a"]
    assert (file.type, file.mode, file.uid, file.gid, file.mtime, file.size) == ("file", 0o4751, 3, 4, 5_000_000_000, 3)
    assert file.digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file.xattrs == (("security.capability", "0102"), ("user.a", ""))


def test_links_and_devices(tmp_path: Path) -> None:
    files = image(tmp_path, layer(Member("l", SYMLINK, linkname="../t"), Member("d", CHAR, devmajor=1, devminor=3))).files
    assert (files["/l"].type, files["/l"].link) == ("symlink", "../t")
    assert (files["/d"].type, files["/d"].device) == ("char", (1, 3))


def test_a_whiteout_takes_a_name_and_all_below_it_away(tmp_path: Path) -> None:
    lower = layer(folder("d"), text("d/a"), folder("d/s"), text("d/s/b"), text("ds"))
    assert names(tmp_path, lower, layer(text(".wh.d"))) == ["/ds"]


def test_an_opaque_folder_hides_what_lies_below_but_not_what_its_own_layer_brings_before_or_after(tmp_path: Path) -> None:
    lower = layer(folder("d"), text("d/old"), text("d/both", "1"))
    upper = layer(folder("d"), text("d/both", "2"), text("d/.wh..wh..opq"), text("d/new"))
    assert names(tmp_path, lower, upper) == ["/d", "/d/both", "/d/new"]


def test_a_whiteout_spares_what_its_own_layer_brings(tmp_path: Path) -> None:
    found = image(tmp_path, layer(text("a", "old")), layer(text("a", "newer"), text(".wh.a")))
    assert found.files["/a"].size == 5


def test_a_file_takes_the_place_of_a_folder_with_all_its_content(tmp_path: Path) -> None:
    assert names(tmp_path, layer(folder("d"), text("d/x")), layer(text("d"))) == ["/d"]


def test_a_folder_over_a_folder_keeps_the_content(tmp_path: Path) -> None:
    assert names(tmp_path, layer(folder("d"), text("d/x")), layer(folder("d", uid=7))) == ["/d", "/d/x"]


def test_hard_links_are_told_by_their_first_name(tmp_path: Path) -> None:
    files = image(tmp_path, layer(text("b"), Member("c", LINK, linkname="b"), text("d"))).files
    assert [files[p].same for p in ("/b", "/c", "/d")] == ["/b", "/b", ""]


def test_a_hard_link_ends_when_one_name_is_written_anew(tmp_path: Path) -> None:
    files = image(tmp_path, layer(text("b"), Member("c", LINK, linkname="b")), layer(text("c"))).files
    assert [files[p].same for p in ("/b", "/c")] == ["", ""]


def test_layers_are_the_names_they_touch(tmp_path: Path) -> None:
    found = image(tmp_path, layer(folder("d"), text("d/a")), layer(text("d/.wh.a")))
    assert [sorted(x.names) for x in found.layers] == [["/d", "/d/a"], ["/d/.wh.a"]]


def test_configuration_is_flattened_to_its_leaves(tmp_path: Path) -> None:
    config = image(tmp_path, config={"Labels": {"a.b": "1"}, "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1"], "Volumes": {}}).config
    assert config['config.Labels["a.b"]'] == "1"
    assert config['config.ExposedPorts["80/tcp"]'] == {}
    assert config["config.Env"] == ["A=1"]
    assert config["config.Volumes"] == {}
    assert not any(key.startswith(("history", "rootfs")) for key in config)


def docker_archive(path: Path, layers: list[bytes], *, linked: bool = False) -> str:
    """As docker save below 25 writes it: a folder a layer; the same layer again is a symlink."""
    import hashlib

    config = {"config": {}, "rootfs": {"diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]}}
    entries = [{"Config": "c.json", "Layers": [f"{n}/layer.tar" for n in range(len(layers))]}]
    with tarfile.open(path, "w") as tar:
        for name, data in [
            *((f"{n}/layer.tar", data) for n, data in enumerate(layers)),
            ("c.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(entries).encode()),
        ]:
            info = tarfile.TarInfo(name)
            if linked and name == "1/layer.tar":
                info.type, info.linkname, data = tarfile.SYMTYPE, "../0/layer.tar", b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_docker_archives_are_read_too(tmp_path: Path) -> None:
    data = layer(text("a"))
    (tmp_path / "scratch").mkdir()
    found = read_image(docker_archive(tmp_path / "d.tar", [data, data], linked=True), str(tmp_path / "scratch"))
    assert list(found.files) == ["/a"]
    assert len(found.layers) == 2


def test_member_names_of_an_archive_never_become_paths(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("../../escaped")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    (tmp_path / "deep" / "scratch").mkdir(parents=True)
    with pytest.raises(CompareError):
        read_image(str(tmp_path / "a.tar"), str(tmp_path / "deep" / "scratch"))
    assert not os.path.lexists(tmp_path / "escaped")


def test_a_layer_that_is_not_what_its_diff_id_says_is_refused(tmp_path: Path) -> None:
    path = Path(docker_archive(tmp_path / "d.tar", [layer(text("a", "before"))]))
    path.write_bytes(path.read_bytes().replace(b"before", b"beyond"))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CompareError, match="does not match its diff_id"):
        read_image(str(path), str(tmp_path / "scratch"))


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(tmp_path: Path) -> None:
    layout = write_layout(str(tmp_path / "layout"), [layer(text("a"))], {})
    digest = json.loads(Path(layout, "index.json").read_text())["manifests"][0]["digest"]
    manifest = Path(layout, "blobs", *digest.split(":"))
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(CompareError, match="does not match its digest"):
        read_image(layout, str(tmp_path))


def test_several_images_in_one_archive_are_refused(tmp_path: Path) -> None:
    layout = write_layout(str(tmp_path / "layout"), [layer(text("a"))], {})
    other = write_layout(str(tmp_path / "other"), [layer(text("b"))], {})
    index = json.loads(Path(layout, "index.json").read_text())
    index["manifests"] += json.loads(Path(other, "index.json").read_text())["manifests"]
    Path(layout, "index.json").write_text(json.dumps(index))
    for blob in Path(other, "blobs", "sha256").iterdir():
        blob.rename(Path(layout, "blobs", "sha256", blob.name))
    with pytest.raises(CompareError, match="holds 2 images"):
        read_image(layout, str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 40, b"\0" * 1024])
def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CompareError):
        read_image(str(tmp_path / "x"), str(tmp_path / "scratch"))

"""What a build writes when it is told, and when it is not."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild, assert_refused
from tests.support.oci import read_image

pytestmark = pytest.mark.integration
Context = Callable[[dict[str, str | bytes]], str]
WARNING = "[Warning] No output specified: the build result only remains in the build cache"


@pytest.fixture
def folder(context: Context) -> str:
    return context({"Dockerfile": "FROM scratch\nCOPY file /\n", "file": "text"})


def test_without_name_and_output_nothing_is_exported(pybuild: Pybuild, folder: str) -> None:
    done = pybuild.ok("build", folder)
    assert WARNING in done.err
    assert not any("export" in step for step in done.steps())
    assert list(Path(pybuild.root, "content", "sha256").iterdir()) == []
    assert pybuild.ok("images", "-q").out.strip() == ""


def test_the_result_is_in_the_cache_nevertheless(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    pybuild.ok("build", folder)
    done = pybuild.ok("build", "-o", f"type=oci,dest={tmp_path}/image.tar", folder)
    assert done.ending("COPY file") == "CACHED"
    assert read_image(tmp_path / "image.tar").files()["file"].text == "text"


@pytest.mark.parametrize("flags", [("-t", "app"), ("--load",), ("-o", "type=image"), ("-o", "type=cacheonly")])
def test_who_says_what_becomes_of_it_is_not_warned(pybuild: Pybuild, folder: str, flags: tuple[str, ...]) -> None:
    assert "No output specified" not in pybuild.ok("build", *flags, folder).err


@pytest.mark.parametrize("flags", [("-t", "app"), ("--load",), ("-o", "type=image")])
def test_an_image_that_is_asked_for_is_made(pybuild: Pybuild, folder: str, flags: tuple[str, ...]) -> None:
    assert "exporting to image" in pybuild.ok("build", *flags, folder).steps()


def test_who_asks_for_the_digest_gets_it_without_a_name(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    told = pybuild.ok("build", "-q", folder).out.strip()
    assert re.fullmatch("sha256:[0-9a-f]{64}", told)
    pybuild.ok("build", "--iidfile", f"{tmp_path}/id", "--metadata-file", f"{tmp_path}/metadata", folder)
    assert (tmp_path / "id").read_text() == told
    assert json.loads((tmp_path / "metadata").read_text())["containerimage.config.digest"] == told


def test_standard_output_gets_one_archive_at_most(pybuild: Pybuild, folder: str) -> None:
    done = pybuild("build", "-o", "-", "-o", "type=oci", folder)
    assert done.code == 1
    assert "multiple outputs configured to write to stdout" in done.err
    assert done.out == ""


@pytest.mark.parametrize("output", ["local", "tar"])
def test_holes_of_a_result_take_no_room(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path, output: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo start > /sparse && truncate -s 300M /sparse\n"})
    pybuild.ok("build", "-o", f"type={output},dest={tmp_path}/out", folder)
    made = tmp_path / "out" / "sparse" if output == "local" else tmp_path / "out"
    assert made.stat().st_size >= 300 << 20
    assert made.stat().st_blocks * 512 < 30 << 20
    if output == "tar":
        with tarfile.open(made) as tar:
            member = tar.extractfile("sparse")
            assert member is not None
            assert member.read(8) == b"start\n\0\0"


@pytest.mark.parametrize("index", ["{", "[]", '{"manifests": [1]}', '{"manifests": [{"annotations": 1}]}', "[" * 100_000])
def test_a_folder_that_is_no_layout_is_not_added_to(pybuild: Pybuild, folder: str, tmp_path: Path, index: str) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "index.json").write_text(index)
    done = pybuild("build", "-o", f"type=oci,tar=false,dest={tmp_path}/layout", folder)
    assert_refused(done, "index.json is not one of an OCI layout")
    assert (tmp_path / "layout" / "index.json").read_text() == index


@pytest.mark.parametrize("output", ["type=tar,dest=out", "type=local,dest=out", "type=cacheonly"])
def test_the_files_for_tools_are_there_without_an_image_too(pybuild: Pybuild, folder: str, tmp_path: Path, output: str) -> None:
    """As buildx: a script that reads the metadata file does not stumble over a build that made none."""
    done = pybuild.ok("build", "-q", "-o", output, "--metadata-file", f"{tmp_path}/metadata", folder, cwd=tmp_path)
    assert json.loads((tmp_path / "metadata").read_text()) == {}
    assert done.out == "\n"


def test_an_id_file_of_a_build_without_an_image_is_empty(pybuild: Pybuild, folder: str, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("of an earlier build")
    pybuild.ok("build", "-o", "type=cacheonly", "--iidfile", f"{tmp_path}/id", folder)
    assert (tmp_path / "id").read_text() == ""

"""Every output that writes a file writes what the user named: a device stays a device, a FIFO's reader gets it, a link stays."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Done, Pybuild, assert_refused

pytestmark = pytest.mark.integration
Context = Callable[[dict[str, str | bytes]], str]


def is_tar_with(name: str) -> Callable[[bytes], bool]:
    return lambda data: name in tarfile.open(fileobj=io.BytesIO(data)).getnames()


OPTIONS: dict[str, tuple[list[str], Callable[[bytes], bool]]] = {
    "tar": (["build", "-o", "type=tar,dest={}"], is_tar_with("file")),
    "oci": (["build", "-o", "type=oci,dest={}"], is_tar_with("index.json")),
    "docker": (["build", "-o", "type=docker,dest={}"], is_tar_with("manifest.json")),
    "iidfile": (["build", "-t", "app", "--iidfile", "{}"], lambda d: bool(re.fullmatch(rb"sha256:[0-9a-f]{64}", d))),
    "metadata": (["build", "-t", "app", "--metadata-file", "{}"], lambda d: "containerimage.digest" in json.loads(d)),
    "save": (["save", "-o", "{}", "app"], is_tar_with("manifest.json")),
}
every_option = pytest.mark.parametrize("option", OPTIONS)


@pytest.fixture
def run(pybuild: Pybuild, context: Context) -> Callable[[str, str | Path], Done]:
    """Run the command of an option of OPTIONS with this destination."""
    folder = context({"Dockerfile": "FROM scratch\nCOPY file /\n", "file": "text"})

    def go(option: str, dest: str | Path) -> Done:
        args = [a.format(dest) for a in OPTIONS[option][0]]
        if option == "save":
            pybuild.ok("build", "-t", "app", folder)
            return pybuild(*args)
        return pybuild(*args, folder)

    return go


@every_option
def test_a_device_stays_a_device(run: Callable[[str, str | Path], Done], tmp_path: Path, option: str) -> None:
    node = tmp_path / "null"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    done = run(option, node)
    assert done.code == 0, done.err
    assert stat.S_ISCHR(os.lstat(node).st_mode)


@every_option
def test_the_reader_of_a_fifo_gets_it(run: Callable[[str, str | Path], Done], tmp_path: Path, option: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()), daemon=True)
    reader.start()
    done = run(option, fifo)
    assert done.code == 0, done.err
    reader.join()
    assert OPTIONS[option][1](read[0])
    assert stat.S_ISFIFO(os.lstat(fifo).st_mode)


@every_option
def test_a_link_is_followed(run: Callable[[str, str | Path], Done], tmp_path: Path, option: str) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    done = run(option, tmp_path / "link")
    assert done.code == 0, done.err
    assert os.readlink(tmp_path / "link") == "target"
    assert OPTIONS[option][1]((tmp_path / "target").read_bytes())


@every_option
def test_standard_output_may_have_its_name(run: Callable[[str, str | Path], Done], pybuild: Pybuild, option: str) -> None:
    done = run(option, "/proc/self/fd/1")
    assert done.code == 0, done.err
    assert done.out != ""


@every_option
def test_a_folder_is_refused_before_anything_is_built(
    run: Callable[[str, str | Path], Done], tmp_path: Path, option: str
) -> None:
    done = run(option, tmp_path)
    assert_refused(done, f"destination file {tmp_path} is a directory")
    assert done.steps() == {}


@pytest.mark.parametrize("option", ["tar", "oci", "iidfile"])
def test_process_substitution_gets_it(pybuild: Pybuild, context: Context, tmp_path: Path, option: str) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY file /\n", "file": "text"})
    args = " ".join(OPTIONS[option][0]).format(f">(cat > {tmp_path}/got)")
    command = " ".join(pybuild.command()) + f" {args} {folder}"
    # ``cat`` has our end of standard error too: what waits for its end waits for ``cat``.
    subprocess.run(["bash", "-c", command], env=pybuild.environment(), capture_output=True, check=True)
    assert OPTIONS[option][1]((tmp_path / "got").read_bytes())


def test_the_id_of_an_earlier_image_does_not_outlive_a_build_that_fails(
    pybuild: Pybuild, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "id").write_text("sha256:old")
    folder = context({"Dockerfile": "FROM scratch\nCOPY missing /\n"})
    assert_refused(pybuild("build", "-t", "app", "--iidfile", str(tmp_path / "id"), folder), "missing")
    assert not (tmp_path / "id").exists()


def test_files_have_no_image_id(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    done = pybuild("build", "-o", f"{tmp_path}/out", "--iidfile", str(tmp_path / "id"), folder)
    assert_refused(done, "local and tar exporters are incompatible with image ID file")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["local", "oci,tar=false"])
def test_a_folder_may_be_a_link(pybuild: Pybuild, context: Context, tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    folder = context({"Dockerfile": "FROM scratch\nCOPY file /\n", "file": "text"})
    pybuild.ok("build", "-o", f"type={kind},dest={tmp_path}/link", folder)
    assert os.readlink(tmp_path / "link") == "folder"
    assert ("file" if kind == "local" else "index.json") in os.listdir(tmp_path / "folder")

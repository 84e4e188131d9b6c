"""RUN for another platform: by an emulator in a user namespace of the step's own, which nobody else sees."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import foreign
from tests.fuzz.builds import ACCOUNT, AsAccount
from tests.support import bases
from tests.support.cli import Pybuild, assert_refused

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
# The file header of a program for s390x, and nothing behind it.
PROGRAM = b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16" + bytes(100)
WITHOUT_EMULATORS = {"PATH": "/nonexistent"}
MACHINES = {"arm64": "aarch64", "s390x": "s390x"}
"""One with each order of bytes."""

STEPS = """FROM base
RUN uname -m > /machine && mkdir /d && chown 33:44 /d && cp /bin/id /d/id && chmod 4755 /d/id
RUN printf '#!/bin/sh\\necho "$0 $1"' > /script && chmod 755 /script && /script one > /said
RUN --mount=type=tmpfs,target=/t --network=none echo x > /t/x && ls /proc/sys/fs/binfmt_misc /dev > /seen
USER app
RUN /d/id -u > /tmp/who; sh -c 'echo $0' name > /tmp/name
"""


@pytest.fixture(scope="module")
def bases_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A base of each of MACHINES, as OCI layouts."""
    folder = tmp_path_factory.mktemp("foreign")
    return {architecture: bases.foreign_layout(f"{folder}/{architecture}", architecture) for architecture in MACHINES}


def needs_own_emulator(architecture: str) -> None:
    if foreign.emulator(architecture):
        pytest.skip(f"the host has registered an emulator for {architecture} already, which is taken")


@pytest.mark.parametrize("architecture", MACHINES)
def test_a_step_runs_as_on_the_other_machine(
    pybuild: Pybuild, context: Context, bases_of: dict[str, str], tmp_path: Path, architecture: str
) -> None:
    needs_own_emulator(architecture)
    registered = sorted(os.listdir("/proc/sys/fs/binfmt_misc")) if os.path.isdir("/proc/sys/fs/binfmt_misc") else []
    base = f"base=oci-layout://{bases_of[architecture]}"
    platform, output = f"--platform=linux/{architecture}", f"type=tar,dest={tmp_path}/files.tar"
    pybuild.ok("--runtime=native", platform, "--build-context", base, "-o", output, context({"Dockerfile": STEPS}))
    with tarfile.open(tmp_path / "files.tar") as files:
        text = {name: _text(files, name) for name in ("machine", "said", "seen", "tmp/who", "tmp/name")}
        names = set(files.getnames())
        owned = files.getmember("d")
    assert text["machine"] == f"{MACHINES[architecture]}\n"
    assert text["said"] == "/script one\n"
    assert text["tmp/who"] == "1000\n", "id shows the real user, whatever the set-id bit"
    assert text["tmp/name"] == "name\n"
    assert (owned.uid, owned.gid) == (33, 44)
    assert not [name for name in (*names, *text["seen"].split()) if "qemu" in name or "pybuild" in name]
    now = sorted(os.listdir("/proc/sys/fs/binfmt_misc")) if os.path.isdir("/proc/sys/fs/binfmt_misc") else []
    assert now == registered, "the host's table is not ours"


def _text(files: tarfile.TarFile, name: str) -> str:
    file = files.extractfile(name)
    assert file is not None
    return file.read().decode()


def test_an_image_for_two_platforms_is_built_at_once(
    pybuild: Pybuild, context: Context, bases_of: dict[str, str], busybox_layout: str, tmp_path: Path
) -> None:
    needs_own_emulator("arm64")
    text = "ARG TARGETARCH\nFROM base-$TARGETARCH\nRUN uname -m > /machine\n"
    layouts = {**bases_of, "amd64": busybox_layout}
    contexts = [f"--build-context=base-{name}=oci-layout://{layout}" for name, layout in layouts.items()]
    if os.uname().machine != "x86_64":
        pytest.skip("written for a machine whose own platform is linux/amd64")
    archive = tmp_path / "both.tar"
    pybuild.ok("--platform=linux/amd64,linux/arm64", *contexts, "-o", f"type=oci,dest={archive}", context({"Dockerfile": text}))
    with tarfile.open(archive) as tar:
        (top,) = json.loads(_text(tar, "index.json"))["manifests"]
        index = json.loads(_text(tar, "blobs/" + top["digest"].replace(":", "/")))
    assert [m["platform"]["architecture"] for m in index["manifests"]] == ["amd64", "arm64"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_account_makes_the_image_that_root_makes(
    pybuild: Pybuild, bases_of: dict[str, str], home: Path, tmp_path: Path
) -> None:
    needs_own_emulator("arm64")
    shutil.copytree(bases_of["arm64"], home / "base")
    (home / "context").mkdir()
    (home / "context/Dockerfile").write_text(STEPS)
    for folder, _, names in os.walk(home):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, ACCOUNT, ACCOUNT)
    digests = []
    for command, to in ((AsAccount(f"{home}/root"), home), (pybuild, tmp_path)):
        flags = ("--build-context", f"base=oci-layout://{home}/base", "--metadata-file", f"{to}/metadata")
        output = ("-o", "type=image,name=app,rewrite-timestamp=true")
        command.ok("--platform=linux/arm64", *flags, *output, f"{home}/context", env={"SOURCE_DATE_EPOCH": "1700000000"})
        digests.append(json.loads((to / "metadata").read_text())["containerimage.digest"])
    assert digests[0] == digests[1]


def test_without_an_emulator_it_is_refused_before_anything_is_pulled(
    pybuild: Pybuild, context: Context, bases_of: dict[str, str]
) -> None:
    needs_own_emulator("s390x")
    base = f"base=oci-layout://{bases_of['s390x']}"
    folder = context({"Dockerfile": "FROM base\nCOPY Dockerfile /\nRUN true\n"})
    done = pybuild("--platform=linux/s390x", "--build-context", base, folder, env=WITHOUT_EMULATORS)
    assert_refused(done, "the step is for linux/s390x, this machine is linux/")
    assert "qemu-s390x-static not found" in done.err
    assert ">>> RUN true" in done.err
    assert "apt install qemu-user-static" in done.err
    assert not list(Path(pybuild.root).glob("content/sha256/*/*.tar")), "nothing was unpacked"


@pytest.mark.parametrize("runtime", ["runc", "crun", "bwrap"])
def test_a_runtime_without_emulators_says_so(
    pybuild: Pybuild, context: Context, bases_of: dict[str, str], runtime: str
) -> None:
    needs_own_emulator("arm64")
    folder = context({"Dockerfile": "FROM base\nRUN true\n"})
    base = f"base=oci-layout://{bases_of['arm64']}"
    done = pybuild(f"--runtime={runtime}", "--platform=linux/arm64", "--build-context", base, folder)
    assert_refused(done, f"{runtime} runs programs of this machine only")
    assert "--runtime native" in done.err


def test_a_program_of_an_unknown_machine_says_what_to_install(pybuild: Pybuild, context: Context) -> None:
    """Where no base says what machine it is for, only the kernel's answer tells."""
    needs_own_emulator("s390x")
    folder = context({"Dockerfile": 'FROM scratch\nCOPY --chmod=755 x /x\nRUN ["/x"]\n', "x": PROGRAM})
    done = pybuild("--platform=linux/s390x", folder, env=WITHOUT_EMULATORS)
    assert_refused(done, "exec format error")
    assert "the step is for linux/s390x, this machine is linux/" in done.err
    assert "apt install qemu-user-static" in done.err
    here = pybuild(folder)
    assert "qemu" not in here.err, "a broken program of this platform needs no emulator"


@pytest.mark.parametrize("env", [{}, WITHOUT_EMULATORS], ids=["emulator", "none"])
def test_a_step_for_another_platform_may_run_programs_of_this_one(
    pybuild: Pybuild, context: Context, busybox: str, env: dict[str, str]
) -> None:
    folder = context({"Dockerfile": f"FROM {busybox} AS b\nFROM scratch\nCOPY --from=b / /\nRUN true\n"})
    pybuild.ok("--platform=linux/s390x", folder, env=env)

"""After a build no byte of a secret is anywhere: not in the state folder, packed or unpacked, not in what was written or said."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_credentials import texts_in
from tests.support.beacon import Beacon
from tests.support.cli import Done, Pybuild
from tests.support.processes import Registry

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
RUNTIMES = ("native", "runc", "crun", "bwrap")

USES = """FROM {busybox} AS one
RUN --mount=type=secret,id=file,uid=1000 test "$(wc -c < /run/secrets/file)" = {size}
RUN --mount=type=secret,id=file,target=/deep/er/s --mount=type=cache,target=/c cp /deep/er/s /dev/shm/copy && touch /c/x
RUN --mount=type=secret,id=variable,env=VARIABLE test -n "$VARIABLE"
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"
RUN --mount=type=tmpfs,target=/t --mount=type=secret,id=file cp /run/secrets/file /t/f
{last}
"""


class Secrets:
    """Values that are like nothing else, in files and in the environment, and what must be found nowhere."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.file, self.variable = (secrets.token_bytes(24) for _ in range(2))
        (folder / "file").write_bytes(self.file)
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        lines = key.read_bytes().splitlines()[2:-1]  # the first line of the body is alike in all keys
        self.env = {"SECRET_OF_TEST": self.variable.hex(), "PYBUILD_TRACE": str(folder.parent / "trace.json")}
        self.flags = (
            "--secret", f"id=file,src={folder}/file", "--secret", "id=variable,env=SECRET_OF_TEST", "--ssh", f"default={key}",
        )  # fmt: skip
        said = self.env["SECRET_OF_TEST"].encode()
        self.kinds = {"file": self.file, "variable": said, "key": lines[0], "end of the key": lines[-1][:40]}
        self.forms = {form for value in (self.file, said, *lines) for form in forms_of(value)}
        self.forms.update(self.kinds.values())


def forms_of(value: bytes) -> Iterator[bytes]:
    """As it is, in hexadecimal, and in base64 wherever it may begin in a longer text."""
    yield value
    yield value.hex().encode()
    yield value.hex().upper().encode()
    for shift in range(3):
        yield base64.b64encode(bytes(shift) + value)[4:-4]


@pytest.fixture
def given(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "given")


@pytest.fixture
def uses(context: Context, busybox: str, given: Secrets) -> Callable[[str], str]:
    """A context whose Dockerfile has every kind of secret mount, and then ``last``."""
    return lambda last: context({"Dockerfile": USES.format(busybox=busybox, size=len(given.file), last=last)})


def assert_nowhere(given: Secrets, *folders: str | Path, said: tuple[Done, ...] = ()) -> None:
    looked = 0
    for folder in folders:
        for where, data in texts_in(str(folder)):
            looked += 1
            for form in given.forms:
                assert form not in data, f"a secret is in {where}"
    assert looked > 20, "nothing was looked at"
    for done in said:
        for form in given.forms:
            assert form not in (done.out + done.err).encode(errors="surrogateescape"), f"pybuild {' '.join(done.args)} shows it"


@pytest.mark.parametrize("kind", ["file", "variable", "key", "end of the key"])
def test_the_search_finds_what_is_there(given: Secrets, tmp_path: Path, kind: str) -> None:
    """In a packed layer, which is where a mistake would put it."""
    (tmp_path / "store").mkdir()
    (tmp_path / "planted").write_bytes(b"before" + given.kinds[kind] + b"after")
    with tarfile.open(tmp_path / "store/layer", "w:gz") as tar:
        tar.add(tmp_path / "planted", "f")
    for number in range(30):
        (tmp_path / f"store/{number}").write_text("")
    with pytest.raises(AssertionError, match="a secret is in"):
        assert_nowhere(given, tmp_path / "store")


@pytest.mark.parametrize("runtime", ["native", "runc"])
def test_nothing_that_a_build_leaves_has_a_secret(
    pybuild: Pybuild, uses: Callable[[str], str], given: Secrets, tmp_path: Path, registry: Registry, runtime: str
) -> None:
    folder = uses("RUN echo done > /done")
    name = f"{registry.host}/secrets/{runtime}"
    out = tmp_path / "out"
    out.mkdir()
    (out / "tmp").mkdir()
    flags = (
        "--runtime", runtime, "--metadata-file", f"{out}/meta", *given.flags, "-t", f"{name}:1",
        "--cache-to", f"type=registry,ref={name}:cache,mode=max", "--cache-to", f"type=local,dest={out}/cache,mode=max",
    )  # fmt: skip
    env = {**given.env, "TMPDIR": f"{out}/tmp"}
    said = [pybuild.ok(*flags, "--push", "--cache-to", "type=inline", folder, env=env)]
    for output in (f"type=oci,dest={out}/oci.tar", f"type=docker,dest={out}/docker.tar", f"type=tar,dest={out}/files.tar",
                   f"type=local,dest={out}/files"):  # fmt: skip
        said.append(pybuild.ok("--progress=plain", *flags, "-o", output, folder, env=env))
    said.append(pybuild.ok("--progress=rawjson", "--no-cache", "--explain", *flags, folder, env=env))
    said += [pybuild.ok(command, *more, env=env) for command, more in (("graph", (folder,)), ("why", ()), ("du", ("--verbose",)))]
    said.append(pybuild("plan", *given.flags, folder, env=env))
    shutil.copy(given.env["PYBUILD_TRACE"], out)
    assert os.listdir(out / "tmp") == []
    assert_nowhere(given, pybuild.root, out, registry.folder, said=tuple(said))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nothing_that_a_failed_build_leaves_has_one(
    pybuild: Pybuild, uses: Callable[[str], str], given: Secrets, runtime: str
) -> None:
    """The step's output is its own; what it wrote elsewhere is thrown away with it."""
    last = "RUN --mount=type=secret,id=file cp /run/secrets/file /stolen && wc -c /stolen && false"
    said = [pybuild("--runtime", runtime, f"--progress={p}", *given.flags, uses(last), env=given.env) for p in ("plain", "rawjson")]
    assert [done.code for done in said] == [1, 1]
    assert_nowhere(given, pybuild.root, said=tuple(said))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_killed_build_leaves_none(
    pybuild: Pybuild, uses: Callable[[str], str], given: Secrets, tmp_path: Path, runtime: str
) -> None:
    """In the middle of a step that has all of them; before anybody has cleaned up."""
    mounts = "--mount=type=secret,id=file --mount=type=secret,id=variable,env=VARIABLE --mount=type=ssh"
    (tmp_path / "tmp").mkdir()
    with Beacon() as beacon:
        folder = uses(f"RUN {mounts} test -s /run/secrets/file && {beacon.hold}")
        env = {**given.env, "TMPDIR": str(tmp_path / "tmp")}
        build = pybuild.start("--runtime", runtime, *given.flags, folder, env=env)
        beacon.wait_for_calls()
        build.kill()
        build.wait()
        beacon.wait_until_gone()
    assert_nowhere(given, pybuild.root, tmp_path / "tmp")
    pybuild.ok("du")
    pybuild.fsck()
    assert_nowhere(given, pybuild.root, tmp_path / "tmp")

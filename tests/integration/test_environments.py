"""Builds where a daemon can't be had: containers and pods in which nothing was relaxed, beside the same build by root."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from runtime.linux.overrides import NAME
from tests.support import containers
from tests.support.cli import Pybuild
from tests.support.containers import DOCKER, DOCKER_USER, KUBERNETES, KUBERNETES_USER, RESTRICTED, Container

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="runc makes the containers as root"),
]


RESTRICTED_WITHOUT = replace(RESTRICTED, files={"/usr/bin/proot": ""})
OUTPUT = ("--output", "type=image,name=app,rewrite-timestamp=true")


@dataclass(frozen=True)
class Place:
    """A container with a home; ``base`` is a busybox, as an OCI layout."""

    container: Container
    root: str
    home: str

    def pybuild(self, *args: str) -> CompletedProcess[str]:
        return containers.pybuild(self.container, self.root, self.home, *args)

    def build(self, dockerfile: str, *args: str, files: Mapping[str, str | bytes] | None = None) -> CompletedProcess[str]:
        """Build from a context of ``files``, as an ordinary user's umask leaves them."""
        context = _context(self.home, dockerfile, files or {}, self.container.uid)
        return self.pybuild("--build-context", f"base=oci-layout://{self.home}/base", *args, context)


def _context(folder: str, dockerfile: str, files: Mapping[str, str | bytes], owner: int) -> str:
    context = tempfile.mkdtemp(prefix="context-", dir=folder)
    os.chmod(context, 0o755)
    for name, text in {"Dockerfile": dockerfile, **files}.items():
        path = os.path.join(context, name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        Path(path).write_bytes(text.encode() if isinstance(text, str) else text)
    for folder, _, names in os.walk(context):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, owner, owner)
    return context


@pytest.fixture
def place(machine: str, busybox_layout: str) -> Iterator[Callable[[Container], Place]]:
    homes: list[str] = []

    def make(container: Container) -> Place:
        home = tempfile.mkdtemp(prefix="home-")
        homes.append(home)
        shutil.copytree(busybox_layout, f"{home}/base")
        for folder, _, names in os.walk(home):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, container.uid, container.uid)
        os.chmod(home, 0o755)
        return Place(container, machine, home)

    yield make
    for home in homes:
        shutil.rmtree(home)


_BY_ROOT: dict[tuple[str, tuple[tuple[str, str | bytes], ...]], str] = {}


@pytest.fixture
def by_root(pybuild: Pybuild, busybox_layout: str, tmp_path: Path) -> Callable[..., str]:
    """The digest that root's build gives on this machine. What several containers are compared with is built once."""

    def build(dockerfile: str, files: Mapping[str, str | bytes], *more: str) -> str:
        key = dockerfile, tuple(sorted(files.items()))
        once = not {"--output", "--runtime", "--no-cache"} & set(more)
        if once and key in _BY_ROOT:
            return _BY_ROOT[key]
        context = _context(str(tmp_path), dockerfile, files, 0)
        env = {"SOURCE_DATE_EPOCH": "1700000000"}
        metadata = tmp_path / "metadata.json"
        base = f"base=oci-layout://{busybox_layout}"
        output = () if "--output" in more else OUTPUT
        pybuild.ok("--build-context", base, *output, "--metadata-file", str(metadata), *more, context, env=env)
        digest = _digest(metadata) if output else ""
        if once:
            _BY_ROOT[key] = digest
        return digest

    return build


def _digest(metadata: Path) -> str:
    digest: str = json.loads(metadata.read_text())["containerimage.digest"]
    return digest


EVERYWHERE = {
    "docker": DOCKER,
    "docker-user": DOCKER_USER,
    "kubernetes": KUBERNETES,
    "kubernetes-user": KUBERNETES_USER,
    "restricted": RESTRICTED,
}


@pytest.mark.parametrize("container", EVERYWHERE.values(), ids=EVERYWHERE)
def test_what_runs_nothing_needs_no_namespace(place: Callable[[Container], Place], container: Container) -> None:
    here = place(container)
    dockerfile = "FROM base\nARG A=1\nRUN true $A\n"
    assert here.build(dockerfile, "--check").returncode == 0
    outline = here.build(dockerfile, "--call=outline")
    assert re.search(r"^BUILD ARG.*\nA ", outline.stdout, re.MULTILINE), outline.stderr
    for command in (["images"], ["du"], ["fsck"], ["prune", "-f"]):
        done = here.pybuild(*command)
        assert done.returncode == 0, (command, done.stderr)
    context = _context(here.home, dockerfile, {}, container.uid)
    for name, code in (("plan", 10), ("graph", 0)):  # 10: something would run
        done = here.pybuild(name, "--build-context", f"base=oci-layout://{here.home}/base", context)
        assert (done.returncode, "RUN true" in done.stdout) == (code, True), (name, done.stderr)


@pytest.mark.parametrize("name", ["docker", "kubernetes"])
def test_an_image_without_run_is_roots(
    place: Callable[[Container], Place], by_root: Callable[[str, dict[str, str]], str], name: str
) -> None:
    here = place(EVERYWHERE[name])
    dockerfile = "FROM base AS one\nCOPY --chown=33:44 a /a\nFROM base\nWORKDIR /w/x\nCOPY --from=one /a b\nUSER 1000\nCOPY a .\n"
    files = {"a": "hello"}
    metadata = f"{here.home}/metadata.json"
    done = here.build(dockerfile, *OUTPUT, "--metadata-file", metadata, files=files)
    assert done.returncode == 0, done.stderr
    assert _digest(Path(metadata)) == by_root(dockerfile, files)


@pytest.mark.parametrize("masked", [True, False], ids=["proc-masked", "proc-whole"])
def test_root_without_cap_sys_admin_runs_steps_in_a_user_namespace(
    place: Callable[[Container], Place], by_root: Callable[[str, dict[str, str]], str], masked: bool
) -> None:
    here = place(replace(KUBERNETES, masked=masked))
    steps = [
        "RUN id -u > /who && chown 33:44 /who",
        "RUN test -e /proc/self/status && test -c /dev/null",
        "USER 12",
        "RUN id > /tmp/x",
    ]
    dockerfile = "\n".join(["FROM base", *steps])
    metadata = f"{here.home}/metadata.json"
    done = here.build(dockerfile, *OUTPUT, "--metadata-file", metadata)
    assert done.returncode == 0, done.stderr
    assert _digest(Path(metadata)) == by_root(dockerfile, {})


STEPS = """FROM base
RUN id -u > /who && chown 33:44 /who && chmod 4755 /who && test "$(stat -c %u:%g:%a /who)" = 33:44:4755 && ln /who /who2
RUN --mount=type=cache,target=/c echo kept > /c/f
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t cp /c/f /kept && echo x > /t/x
RUN --mount=type=bind,source=a,target=/b/a cp /b/a /copied
RUN --mount=type=secret,id=s,target=/run/secrets/s wc -c < /run/secrets/s > /length
RUN test -e /proc/self/status && readlink /proc/self/exe && test -c /dev/null && echo x > /dev/null && ls /sys > /dev/null
RUN echo 127.0.0.1 > /dev/null; grep -q localhost /etc/hosts && rm -rf /tmp/x && mkdir -p /d/e && ln -s e /d/l && rm /who
USER 12:13
WORKDIR /w
RUN id > /tmp/x && umask > /tmp/y && test "$(id -u)" = 12
"""


@pytest.mark.parametrize("masked", [True, False], ids=["proc-masked", "proc-whole"])
def test_root_of_a_container_with_nothing_relaxed_runs_steps(
    place: Callable[[Container], Place], by_root: Callable[..., str], masked: bool
) -> None:
    """No namespace, no mount: a chroot, and answers to system calls. The image is the one of root's build."""
    here = place(replace(DOCKER, masked=masked))
    files = {"a": "copied", "secret": "hidden"}
    metadata = f"{here.home}/metadata.json"
    secret = os.path.join(here.home, "secret")
    Path(secret).write_text("hidden")
    done = here.build(STEPS, *OUTPUT, "--secret", f"id=s,src={secret}", "--metadata-file", metadata, files=files)
    assert done.returncode == 0, done.stderr
    assert "RUN has no sandbox of its own here" in done.stderr
    assert _digest(Path(metadata)) == by_root(STEPS, files, "--secret", f"id=s,src={secret}")


def test_root_may_ask_for_steps_without_namespaces_by_name(by_root: Callable[..., str], tmp_path: Path) -> None:
    """They want plain folders, whose parts can be renamed: no overlays."""
    (tmp_path / "hidden").write_text("hidden")
    files, secret = {"a": "copied"}, ("--secret", f"id=s,src={tmp_path}/hidden")
    usual = by_root(STEPS, files, *secret)
    assert by_root(STEPS, files, *secret, "--runtime", "unprivileged", "--root", f"{tmp_path}/other") == usual


def test_a_cache_of_overlays_is_not_lost_to_a_runtime_that_was_asked_for(
    pybuild: Pybuild, busybox_layout: str, tmp_path: Path
) -> None:
    context = _context(str(tmp_path), "FROM base\nRUN echo 1 > /x\n", {}, 0)
    flags = ("--build-context", f"base=oci-layout://{busybox_layout}", context)
    pybuild.ok(*flags)
    done = pybuild("--runtime", "unprivileged", *flags)
    assert done.code == 1
    assert "has snapshots of the overlay one" in done.err
    assert "--root" in done.err
    assert pybuild.ok(*flags).not_cached() == {}


# What has owners of every kind: by COPY and ADD, by steps of root and of others, in folders that hand on their group, in a cache.
OWNED = """FROM base AS one
ADD files.tar /x/
RUN chown -h 3:4 /x/d/link && chown 33 /x/d/sub && mkdir -p /y && chgrp 50 /y && chmod 2775 /y && touch /y/given
WORKDIR /y/made
COPY --link --chown=1:2 tree /linked/
FROM base
COPY --from=one /x /x2
COPY --from=one --chown=55:56 /x /x3
COPY --link --from=one /x /x4
COPY --from=one /y /y
WORKDIR /y/w
COPY --chmod=4755 a /y/a
COPY --chown=app tree /y/tree
RUN id -u > /who && chown 33:44 /who && chmod 4755 /who && test "$(stat -c %u:%g:%a /who)" = 33:44:4755 && ln /who /who2
RUN ln -s x /l && chown -h 5:6 /l && mkfifo /p && chown 7:8 /p && mknod /null c 1 3 && chown 9 /null
RUN mv /l /m && ln -s /x2 /t && chown -h 5 /t && mv /p /q && cp -a /x2 /x6 && mkdir -m 0 /closed && (umask 777; touch /f)
RUN --mount=type=cache,target=/c,uid=5,gid=6,mode=0751 stat -c '%u %g %a' /c > /stat; ln -s q /c/l; chown -h 8:9 /c/l
RUN --mount=type=cache,target=/c,uid=5,gid=6,mode=0751 stat -c '%u %g %a' /c/l >> /stat
RUN --mount=type=bind,from=one,source=/x,target=/b cp -a /b /x5; stat -c '%n %u %g %a %F' /b/d/* >> /stat
RUN --mount=type=secret,id=s,uid=12,mode=0440 stat -c '%u %g %a' /run/secrets/s >> /stat; wc -c < /run/secrets/s >> /stat
USER 4:5
WORKDIR /u
RUN --mount=type=tmpfs,target=/t id > /tmp/i; mkdir /tmp/mine; umask > /tmp/mine/umask
"""


def _owned(folder: str) -> dict[str, str | bytes]:
    """The context of OWNED. Its archive claims other owners by the attribute that they may be kept in."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, mode, uid, gid, more in (
            ("d", tarfile.DIRTYPE, 0o755, 0, 0, {}),
            ("d/f", tarfile.REGTYPE, 0o6755, 12, 34, {}),
            ("d/hard", tarfile.LNKTYPE, 0o6755, 12, 34, {"linkname": "d/f"}),
            ("d/link", tarfile.SYMTYPE, 0o777, 5, 6, {"linkname": "f"}),
            ("d/p", tarfile.FIFOTYPE, 0o600, 7, 8, {}),
            ("d/null", tarfile.CHRTYPE, 0o666, 9, 9, {"devmajor": 1, "devminor": 3}),
            ("d/sub", tarfile.DIRTYPE, 0o1770, 20, 21, {"pax_headers": {f"SCHILY.xattr.{NAME}": "77:77:4777"}}),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid, member.mtime = kind, mode, uid, gid, 1_600_000_000
            for field, value in more.items():
                setattr(member, field, value)
            tar.addfile(member)
    return {"a": "copied", "files.tar": archive.getvalue(), "tree/s/f": "deep"}


ONE_ID = {
    "one-id": replace(KUBERNETES_USER, masked=False),
    "one-id-proc-masked": KUBERNETES_USER,
    "one-id-no-new-privileges": replace(RESTRICTED, seccomp=False),
    "no-namespace": DOCKER_USER,
    "restricted": RESTRICTED,
}


@pytest.mark.parametrize("container", ONE_ID.values(), ids=ONE_ID)
def test_with_one_id_the_image_is_roots(
    place: Callable[[Container], Place], by_root: Callable[..., str], container: Container
) -> None:
    """Nobody may own a file but the account: other owners, modes that are refused and devices are kept beside the files."""
    here = place(container)
    files, metadata, secret = _owned(here.home), f"{here.home}/metadata.json", os.path.join(here.home, "secret")
    Path(secret).write_text("hidden")
    done = here.build(OWNED, *OUTPUT, "--secret", f"id=s,src={secret}", "--metadata-file", metadata, files=files)
    assert done.returncode == 0, done.stderr
    assert _digest(Path(metadata)) == by_root(OWNED, files, "--secret", f"id=s,src={secret}")
    again = here.build(OWNED, *OUTPUT, "--secret", f"id=s,src={secret}", "--progress=plain", files=files)
    assert again.stderr.count("CACHED") >= 20, again.stderr
    for command in (["fsck", "--verify"], ["prune", "-af"]):
        checked = here.pybuild(*command)
        assert checked.returncode == 0, (command, checked.stdout, checked.stderr)


EXPORTED = """FROM base AS one
ADD files.tar /x/
RUN rm /x/d/null && chown -h 3:4 /x/d/link && chmod 4711 /x/d/sub
FROM base
COPY --from=one /x /x
COPY --chown=app tree /y/tree
"""


@pytest.mark.parametrize("name", ["one-id", "no-namespace"])
def test_with_one_id_every_output_is_roots(place: Callable[[Container], Place], by_root: Callable[..., str], name: str) -> None:
    here = place(ONE_ID[name])
    files = _owned(here.home)
    for kind in ("tar", "docker", "oci", "local"):
        ours, theirs = f"{here.home}/ours-{kind}", f"{here.home}/theirs-{kind}"
        more = ",rewrite-timestamp=true" if kind in ("docker", "oci") else ""
        done = here.build(EXPORTED, "--output", f"type={kind},dest={ours}{more}", files=files)
        assert done.returncode == 0, done.stderr
        by_root(EXPORTED, files, "--output", f"type={kind},dest={theirs}{more}")
        if kind == "local":
            assert _folder(ours) == _folder(theirs)
        else:
            assert Path(ours).read_bytes() == Path(theirs).read_bytes(), kind


def _folder(root: str) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            attributes = [] if os.path.islink(path) else sorted(os.listxattr(path))
            found[os.path.relpath(path, root)] = status.st_mode, status.st_nlink, attributes
    return found


DEBIAN = """FROM debian
RUN apt-get -qq update && apt-get -qq install --no-install-recommends cron iputils-ping sudo && getcap /usr/bin/ping \
 && useradd -m -u 1234 bob && su bob -c 'touch /home/bob/x' && ln -s x /home/bob/l && chown -h bob:mail /home/bob/l \
 && rm -rf /var/lib/apt/lists /var/cache/apt /var/cache/ldconfig /var/log/*.log /var/log/apt /var/lib/dpkg/*-old \
    /var/log/lastlog /var/log/faillog
"""


@pytest.mark.xdist_group("flask")  # a Debian is made once a worker
@pytest.mark.parametrize("name", ["one-id", "no-namespace"])
def test_with_one_id_packages_are_installed_as_by_root(
    place: Callable[[Container], Place], by_root: Callable[..., str], name: str, debian_layout: str
) -> None:
    """dpkg gives files to groups, sets bits, capabilities and links; useradd and su change ids."""
    here = place(replace(ONE_ID[name], network=True))
    shutil.copytree(debian_layout, f"{here.home}/debian")
    os.chmod(f"{here.home}/debian", 0o755)
    metadata = f"{here.home}/metadata.json"
    base = ("--build-context", f"debian=oci-layout://{here.home}/debian")
    done = here.build(DEBIAN, *base, *OUTPUT, "--metadata-file", metadata, "--progress=plain")
    assert done.returncode == 0, done.stderr
    assert _digest(Path(metadata)) == by_root(DEBIAN, {}, *base)


def test_with_one_id_a_runtime_that_keeps_no_owners_is_refused(place: Callable[[Container], Place]) -> None:
    here = place(KUBERNETES_USER)
    done = here.build("FROM base\nRUN true\n", "--runtime", "runc", "-t", "app")
    assert done.returncode == 1
    assert "runc can't keep the owners of files where there is one id only" in done.stderr


def test_a_step_that_can_not_run_says_so_before_anything_is_pulled(place: Callable[[Container], Place]) -> None:
    here = place(replace(DOCKER_USER, files={"/usr/bin/proot": ""}))
    done = here.build("FROM base\nRUN true\n", "--progress=plain", "-t", "app")
    assert done.returncode == 1
    assert "cannot make a user namespace: Operation not permitted" in done.stderr
    assert "a seccomp policy of the container around may forbid it" in done.stderr
    layers = [line for line in done.stderr.splitlines() if " / " in line and "sha256:" in line]
    assert not layers, done.stderr


def test_subordinate_ids_that_can_not_be_mapped_leave_ones_own(place: Callable[[Container], Place]) -> None:
    """No new privileges: newuidmap is there, the ranges are granted, and it has no right to write them."""
    ranges = {"/etc/subuid": "43210:100000:65536\n", "/etc/subgid": "43210:100000:65536\n"}
    here = place(replace(RESTRICTED, seccomp=False, files=ranges))
    done = here.build("FROM base\nRUN id -u\n", "--progress=plain", "-t", "app")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^#\d+ [\d.]+ 0$", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize(
    ("container", "code", "said"),
    [
        (DOCKER, 0, "missing  namespaces .*cannot make a user namespace(.|\n)*ok +runtime unprivileged +works, and is taken"),
        (DOCKER_USER, 0, "missing  namespaces .*cannot make a user namespace(.|\n)*ok +runtime unprivileged +works, and is taken"),
        (RESTRICTED_WITHOUT, 1, "missing  namespaces .*cannot make a user namespace(.|\n)*so RUN can't be executed"),
        (KUBERNETES, 0, "limited  /proc .*parts of it are hidden(.|\n)*ok +runtime native +works, and is taken"),
        (KUBERNETES_USER, 0, "limited  ids .*one id: 43210 has no range(.|\n)*usermod --add-subuids"),
    ],
    ids=["docker", "docker-user", "restricted-without-proot", "kubernetes", "kubernetes-user"],
)
def test_the_doctor_names_what_is_missing(place: Callable[[Container], Place], container: Container, code: int, said: str) -> None:
    here = place(container)
    done = here.pybuild("doctor")
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(said, done.stdout), done.stdout
    as_json = json.loads(here.pybuild("doctor", "--json").stdout)
    assert {"name", "state", "found", "cost", "mend"} == as_json[0].keys()

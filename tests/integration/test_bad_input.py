"""Bad input and a bad world: a clear error each, exit code not 0, no traceback, nothing half-made left as valid."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY, Done, Pybuild, assert_refused
from tests.support.oci import Entry, layer_tar
from tests.support.registries import ClosedRegistry, EmptyRegistry, TamperingRegistry

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


@pytest.fixture
def refused(pybuild: Pybuild, context: Context, busybox: str) -> Iterator[Callable[..., Done]]:
    """Build a Dockerfile (``BASE`` is a base image) that has to fail naming ``causes``; the store is checked at the end."""

    def build(dockerfile: str, *causes: str, files: dict[str, str | bytes] | None = None, flags: tuple[str, ...] = ()) -> Done:
        folder = context({"Dockerfile": dockerfile.replace("BASE", busybox), **(files or {})})
        done = pybuild("-t", "never", *flags, folder)
        assert_refused(done, *causes)
        return done

    yield build
    assert pybuild.ok("images", "-q").out.strip() == "", "a failed build made an image"
    pybuild.fsck()


# ------------------------------------------------------------------------------------------------ what the user names
def test_no_such_dockerfile_names_the_ones_there_are(pybuild: Pybuild, context: Context) -> None:
    folder = context({"Dockerfile.prod": "FROM scratch\n"})
    assert_refused(pybuild(folder), "Dockerfile: no such file", "Dockerfile.prod")
    assert_refused(pybuild("-f", f"{folder}/other", folder), "other: no such file")


def test_no_such_context(pybuild: Pybuild) -> None:
    assert_refused(pybuild("/no/such/folder"), "/no/such/folder", "not found")


def test_a_file_is_no_context(pybuild: Pybuild, context: Context) -> None:
    assert_refused(pybuild(f"{context({'Dockerfile': 'FROM scratch'})}/Dockerfile"), "neither a directory nor an archive")


def test_a_remote_context_that_can_not_be_had_says_what_it_was_needed_for(pybuild: Pybuild) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    assert_refused(pybuild(f"http://127.0.0.1:{port}/x.git"), "failed to read dockerfile: failed to load cache key: ")
    assert_refused(pybuild(f"http://127.0.0.1:{port}/x.tar"), "failed to read downloaded context: failed to load cache key: ")


def test_no_such_target_stage(refused: Callable[..., Done]) -> None:
    refused("FROM BASE AS build\nRUN true\n", "target stage", "biuld", flags=("--target", "biuld"))


def test_no_such_stage_in_copy_from_is_an_image_that_is_not_there(refused: Callable[..., Done]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    refused(f"FROM scratch\nCOPY --from=127.0.0.1:{port}/none /a /b\n", f"127.0.0.1:{port}/none")


def test_a_stage_that_a_folder_replaces_is_no_image(refused: Callable[..., Done], context: Context) -> None:
    flags = ("--build-context", f"dep={context({'f': 'f'})}")
    refused("FROM BASE AS dep\nFROM dep\nCOPY <<e /x\ne\n", "invalid image config for export: missing architecture", flags=flags)


def test_no_such_stage_by_number(refused: Callable[..., Done]) -> None:
    refused("FROM scratch\nCOPY --from=3 /a /b\n", "3")


def test_an_unused_build_arg_is_a_warning(pybuild: Pybuild, context: Context) -> None:
    done = pybuild.ok("--build-arg", "TYPO=1", context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
    assert "build-args [TYPO] were not consumed" in done.err


def test_a_build_arg_that_from_needs_and_nobody_gives(refused: Callable[..., Done]) -> None:
    refused("ARG TAG\nFROM ${TAG}\n", "base name (${TAG}) should not be blank")


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        (("--no-such-flag",), "--no-such-flag"),
        (("--output", "type=floppy"), "floppy"),
        (("--platform", "linux/what/ever/more"), "linux/what/ever/more"),
        (("-t", "Upper/Case"), "Upper/Case"),
        (("--secret", "id=x,src=/no/such/file"), "/no/such/file"),
        (("--build-context", "x=/no/such/folder"), "/no/such/folder"),
        (("--runtime", "floppy"), "floppy"),
        (("--cache-to", "type=floppy"), "floppy"),
        (("--attest", "type=sbom"), "attest"),
    ],
)
def test_bad_flags_are_named(pybuild: Pybuild, context: Context, busybox: str, flags: tuple[str, ...], cause: str) -> None:
    dockerfile = f"FROM {busybox}\nRUN --mount=type=secret,id=x true\n"
    assert_refused(pybuild(*flags, context({"Dockerfile": dockerfile})), cause, code=None)


# ------------------------------------------------------------------------------------------------ what the Dockerfile says
def test_unknown_instruction_is_shown_with_a_suggestion(refused: Callable[..., Done]) -> None:
    done = refused("FROM BASE\nRNU echo hi\nCMD x\n", "unknown instruction: RNU", "did you mean RUN?")
    assert re.search(r"Dockerfile:2\n-+\n.*1 \| .*\n +2 \| >>> RNU echo hi\n", done.err)


def test_a_fifo_for_the_accounts_of_an_image_is_refused_and_not_waited_for(refused: Callable[..., Done]) -> None:
    text = "/etc/passwd of the root file system is not a regular file"
    refused("FROM BASE\nRUN rm /etc/passwd && mkfifo /etc/passwd\nRUN true\n", text)


@pytest.mark.parametrize(
    ("name", "flags", "env"),
    [
        ("Dockerfile", (), {}),
        (".dockerignore", (), {}),
        ("Dockerfile.dockerignore", (), {}),
        ("other", ("-f", "FOLDER/other"), {}),
        ("secret", ("--secret", "id=x,src=FOLDER/secret"), {}),
        ("key", ("--ssh", "default=FOLDER/key"), {}),
        ("pybuild.toml", (), {"PYBUILD_CONFIG": "FOLDER/pybuild.toml"}),
        ("index.json", ("--build-context", "base=oci-layout://FOLDER"), {}),
        ("index.json", ("--cache-from", "type=local,src=FOLDER"), {}),
        ("index.json", ("--cache-to", "type=local,dest=FOLDER"), {}),
        ("index.json", ("-o", "type=oci,tar=false,dest=FOLDER"), {}),
        ("ca.pem", (), {"PYBUILD_CONFIG": "FOLDER/certificates.toml"}),
        ("ca.pem", (), {"SSL_CERT_FILE": "FOLDER/ca.pem"}),
    ],
)
def test_a_fifo_in_the_place_of_a_file_is_refused_and_not_waited_for(
    pybuild: Pybuild, context: Context, name: str, flags: tuple[str, ...], env: dict[str, str]
) -> None:
    base = "base" if "--build-context" in flags else "127.0.0.1:1/none" if name == "ca.pem" else "scratch"
    folder = context({
        "Dockerfile": f"FROM {base}\nCOPY pybuild.toml* certificates.toml /\n",
        "certificates.toml": '[registry."127.0.0.1:1"]\nhttp = false\nca = ["ca.pem"]\n',
    })
    if name == "Dockerfile":
        os.unlink(f"{folder}/{name}")
    os.mkfifo(f"{folder}/{name}")
    given = [f.replace("FOLDER", folder) for f in flags]
    done = pybuild(*given, folder, cwd=folder, env={k: v.replace("FOLDER", folder) for k, v in env.items()})
    assert f"{name} is not a regular file" in done.err
    assert done.code == (0 if "--cache-from" in flags else 1)


def test_a_fifo_for_docker_s_configuration_is_refused_and_not_waited_for(
    pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "config.json")
    env = {"DOCKER_CONFIG": str(tmp_path)}
    with ClosedRegistry(busybox_layout) as server:
        done = pybuild(context({"Dockerfile": f"FROM {server.host}/closed:1\n"}), env=env)
    assert_refused(done, "config.json is not a regular file", code=None)
    pybuild.ok(context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}), env=env)


def test_unknown_flag_of_an_instruction(refused: Callable[..., Done]) -> None:
    refused("FROM BASE\nCOPY --form=x a b\n", "unknown flag: --form", "did you mean from?", "Dockerfile:2")


def test_empty_dockerfile(refused: Callable[..., Done]) -> None:
    refused("# nothing\n", "file with no instructions")


def test_a_failing_run_shows_its_line_its_code_and_its_last_words(refused: Callable[..., Done]) -> None:
    done = refused(
        "FROM BASE\nRUN echo fine\nRUN echo out; echo last words >&2; \\\n    exit 42\n",
        "exit code: 42",
        "/bin/sh -c echo out; echo last words >&2;",
    )
    tail = done.err[done.err.rindex("------\n > ") :]
    assert "last words" in tail
    assert "out" in tail
    assert re.search(r"3 \| >>> RUN echo out", tail)
    assert re.search(r"4 \| >>> +exit 42", tail)


def test_a_command_that_is_not_there(refused: Callable[..., Done]) -> None:
    refused('FROM BASE\nRUN ["/no/such/program"]\n', "/no/such/program")
    refused("FROM BASE\nRUN no-such-command\n", "exit code: 127", "no-such-command: not found")


def test_a_user_that_is_not_there(refused: Callable[..., Done]) -> None:
    refused("FROM BASE\nUSER nobody-here\nRUN true\n", "nobody-here")


def test_copy_of_a_missing_file_names_the_nearest(refused: Callable[..., Done]) -> None:
    done = refused(
        "FROM BASE\nCOPY src/setings.toml /etc/\n",
        "/src/setings.toml",
        "not found",
        files={"src/settings.toml": "x", "src/other": "y"},
    )
    assert "src/settings.toml" in done.err, "the nearest match"
    assert "Dockerfile:2" in done.err


def test_copy_of_an_ignored_file_says_so(refused: Callable[..., Done]) -> None:
    done = refused("FROM BASE\nCOPY key /\n", "/key", "not found", files={"key": "x", ".dockerignore": "key\n"})
    assert ".dockerignore" in done.err


def test_copy_of_a_missing_file_of_a_stage_names_the_nearest(refused: Callable[..., Done]) -> None:
    done = refused("FROM BASE AS b\nRUN mkdir /o && touch /o/binary\nFROM scratch\nCOPY --from=b /o/binray /\n", "/o/binray")
    assert "/o/binary" in done.err


# ------------------------------------------------------------------------------------------------ registries
def test_no_such_image(pybuild: Pybuild, context: Context, busybox_layout: str) -> None:
    with EmptyRegistry(busybox_layout) as server:
        name = f"{server.host}/no/such:image"
        assert_refused(pybuild(context({"Dockerfile": f"FROM {name}\n"})), name, "not found", "Dockerfile:1")
    pybuild.fsck()


def test_no_such_tag_in_a_real_registry(refused: Callable[..., Done], busybox: str) -> None:
    refused("FROM BASE-typo\nRUN true\n", f"{busybox}-typo", "not found")


def test_unreachable_registry(pybuild: Pybuild, context: Context) -> None:
    # A port that was free a moment ago; even if somebody took it since, it is no registry.
    with socket.create_server(("127.0.0.1", 0)) as held:
        host = f"127.0.0.1:{held.getsockname()[1]}"
    assert_refused(pybuild(context({"Dockerfile": f"FROM {host}/a/b:1\nRUN true\n"})), host, "refused", "Dockerfile:1")
    pybuild.fsck()


def test_a_registry_that_wants_credentials(pybuild: Pybuild, context: Context, busybox_layout: str) -> None:
    with ClosedRegistry(busybox_layout) as server:
        done = pybuild(context({"Dockerfile": f"FROM {server.host}/closed:1\n"}))
        assert_refused(done, server.host)
        assert re.search("unauthorized|authorization|credentials|401", done.err)
    pybuild.fsck()


@pytest.mark.parametrize("layer", [None, 0, 2])
def test_bytes_that_are_not_those_of_the_digest(
    pybuild: Pybuild, context: Context, busybox_layout: str, layer: int | None, tmp_path: Path
) -> None:
    """``layer`` None is the manifest. The lie is not stored: an honest registry with the same image is believed afterwards."""
    dockerfile = "FROM {host}/base:1\nRUN cat /etc/motd > /copy\n"
    with TamperingRegistry(busybox_layout, layer=layer) as server:
        done = pybuild("-t", "never", context({"Dockerfile": dockerfile.format(host=server.host)}))
        assert_refused(done, server.victim)
        assert "digest" in done.err
        pybuild.fsck()
        server.victim = ""
        pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", context({"Dockerfile": dockerfile.format(host=server.host)}))
    pybuild.fsck()


# ------------------------------------------------------------------------------------------------ the machine
def test_a_missing_runtime_is_told_at_the_first_run(pybuild: Pybuild, context: Context, busybox: str) -> None:
    """COPY still works; RUN says what is missing where it is asked for by name. Nothing of it is needed else."""
    copy = context({"Dockerfile": f"FROM {busybox}\nCOPY Dockerfile /\n"})
    run = context({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    assert without_programs(pybuild, ("runc", "crun", "bwrap"), "--runtime", "runc", copy).code == 0
    assert_refused(without_programs(pybuild, ("runc", "crun", "bwrap"), "--runtime", "runc", run), "runc", "hint: apt install runc")
    assert_refused(without_programs(pybuild, ("crun",), "--runtime", "crun", run), "crun")
    assert without_programs(pybuild, ("runc", "crun", "bwrap"), run).code == 0
    pybuild.fsck()


def without_programs(pybuild: Pybuild, names: tuple[str, ...], *args: str) -> Done:
    """Run pybuild where these programs are not to be found: in a mount namespace that has an unusable file over each."""
    places = {p for name in names for folder in _PATH for p in [os.path.realpath(f"{folder}/{name}")] if os.path.isfile(p)}
    cover = "".join(f"mount --bind /dev/null {place} && " for place in sorted(places))
    command = ["unshare", "--mount", "sh", "-c", f'{cover} exec "$@"', "sh", *pybuild.command(*args)]
    done = subprocess.run(
        command, env=pybuild.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    return Done(args, done.returncode, done.stdout, done.stderr)


_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


_LIMITED = """
import os, sys
from runtime.linux.namespaces import enter_user_namespace
enter_user_namespace()
with open("/proc/sys/user/max_user_namespaces", "w") as f:
    f.write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_neither_root_nor_user_namespaces(context: Context) -> None:
    """Uid 1000 in a user namespace of its own, whose root has set the limit of further ones to 0."""
    home = tempfile.mkdtemp(prefix="pybuild-user-", dir="/tmp")
    try:
        folder = shutil.copytree(context({"Dockerfile": "FROM scratch\nRUN [\"/d\"]\n"}), f"{home}/context")
        shutil.chown(home, 1000, 1000)
        os.chmod(folder, 0o755)
        # The capability to read every file stays: Python and the package may lie in root's home. None to mount is left.
        read = ("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search", "--bounding-set", "-sys_admin")
        become = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", *read, "--"]
        build = ["-m", "builder", "--runtime", "native", "--root", f"{home}/root", folder]  # else it would go to proot
        command = [sys.executable, "-c", _LIMITED, *become, sys.executable, *build]
        env = {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": REPOSITORY, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    finally:
        shutil.rmtree(home)
    assert_refused(Done((), done.returncode, done.stdout, done.stderr), "user namespace", "max_user_namespaces", "root")


def test_a_state_folder_that_cannot_be_used(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(
        pybuild("--root", f"{tmp_path}/file/root", context({"Dockerfile": "FROM scratch\n"})),
        "state folder",
        f"{tmp_path}/file/root",
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """An empty tmpfs of 24 MB."""
    folder = str(tmp_path / "small")
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("what", "step"),
    [
        ("a step", "RUN dd if=/dev/zero of=/big bs=1M count=18 && echo written"),
        ("a copy", "COPY big /big"),
        ("many files", "RUN for i in $(seq 400); do dd if=/dev/zero of=/f$i bs=64k count=1 || exit 1; done"),
        ("an archive of files that each fit", "ADD many.tar /many/"),
        ("a step that does not mind", "RUN dd if=/dev/zero of=/big bs=64k count=400; true"),
    ],
)
def test_a_full_disk_fails_clearly_and_is_no_damage(
    context: Context, busybox: str, small_disk: str, tmp_path: Path, what: str, step: str
) -> None:
    pybuild = Pybuild(f"{small_disk}/root")
    filler = Path(small_disk, "filler")
    filler.write_bytes(bytes(8 << 20))
    dockerfile = f"FROM {busybox}\nRUN echo before > /before\n{step}\n"
    many = layer_tar([Entry(f"f{n}", bytes(64 << 10)) for n in range(400)])
    folder = context({"Dockerfile": dockerfile, "big": os.urandom(18 << 20), "many.tar": many})
    done = pybuild("-t", "never", folder)
    assert_refused(done)
    assert re.search("(?i)no space left on device|disk is full", done.err)
    status = os.statvfs(small_disk)
    assert status.f_bavail * status.f_frsize > 8 << 20, "what the failed step wrote is there after the build has ended"
    assert pybuild.ok("images", "-q").out.strip() == ""
    pybuild.fsck()

    filler.unlink()
    Path(folder, "Dockerfile").write_text(f"FROM {busybox}\nRUN echo before > /before\nRUN cat /before > /after\n")
    again = pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    assert again.ending("RUN echo before") == "CACHED"
    pybuild.fsck()


def test_a_disk_full_in_the_pull(context: Context, busybox: str, small_disk: str, tmp_path: Path) -> None:
    pybuild = Pybuild(f"{small_disk}/root")
    filler = Path(small_disk, "filler")
    filler.write_bytes(bytes((24 << 20) - (2 << 20)))
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    done = pybuild(folder)
    assert_refused(done)
    assert re.search("No space left on device|disk is full", done.err)
    filler.unlink()
    pybuild.fsck()
    pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    pybuild.fsck()


def test_an_output_that_cannot_be_written(refused: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" / "i.tar"
    refused("FROM BASE\nRUN true\n", str(out), "Not a directory", flags=("-o", f"type=oci,dest={out}"))
    assert (tmp_path / "file").read_text() == "kept"


def test_folders_above_an_output_are_made(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    """As buildx does it."""
    folder = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    pybuild.ok("-o", f"type=oci,dest={tmp_path}/no/such/folder/i.tar", folder)
    assert (tmp_path / "no/such/folder/i.tar").exists()


def test_a_failed_export_leaves_no_half_file(context: Context, pybuild: Pybuild, small_disk: str) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY big /\n", "big": os.urandom(30 << 20)})
    assert_refused(pybuild("-o", f"type=oci,dest={small_disk}/i.tar", folder), "No space left on device")
    assert os.listdir(small_disk) == []
    pybuild.fsck()


def test_a_path_in_an_error_is_one_line_however_it_is_called(refused: Callable[..., Done]) -> None:
    refused('FROM scratch\nCOPY ["a\\nb", "/"]\n', '"/a\\nb": not found')
    refused("FROM BASE\nRUN --mount=type=bind,source=a\x01b,target=/m true\n", '"/a\\x01b"')


def test_text_that_is_no_dockerfile(refused: Callable[..., Done], pybuild: Pybuild) -> None:
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        assert_refused(pybuild("-", input="FROM scratch\n".encode(encoding)), "UTF-16 or UTF-32 text, it has to be UTF-8")
    assert_refused(pybuild("-", input=b"FROM scratch\n\xff\xfe\n"), "unknown instruction: \ufffd\ufffd")
    refused("FROM BASE\nWORKDIR /a\0b\n", 'invalid path "/a\\x00b": a path can\'t contain a NUL byte')
    refused("FROM BASE\nRUN --network=host true\n", "network.host is not allowed", "hint: allow it with --allow network.host")
    refused("FROM scratch\nCOPY --chown=app x /\n", 'can\'t look up the owner "app"', files={"x": ""})

"""Every form of context and of Dockerfile that buildx knows: what is built is what was given, and nothing of the host besides."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.support.cli import DEADLINE, Done, Pybuild, assert_refused
from tests.support.web import served

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
FILES = {"Dockerfile": "FROM scratch\nCOPY . /\n", "a/hello": "hello\n"}
OTHER = "FROM scratch\nCOPY a/hello /other\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def built(pybuild: Pybuild, out: Path) -> Callable[..., set[str]]:
    """Build with the given arguments; the paths of the files in the result."""

    def build(*args: str, input: bytes = b"", cwd: str | None = None) -> set[str]:
        shutil.rmtree(out, ignore_errors=True)
        pybuild.ok("-o", f"type=local,dest={out}", *args, input=input, cwd=cwd)
        return contents(out)

    return build


def contents(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def archive(files: dict[str, str], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.ZstdCompressor().compress,
}


# ------------------------------------------------------------------------------------------------ archives
@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_an_archive_on_standard_input_is_a_context(built: Callable[..., set[str]], kind: str) -> None:
    assert built("-", input=COMPRESSIONS[kind](archive(FILES))) == {"Dockerfile", "a/hello"}


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_an_archive_file_is_a_context(built: Callable[..., set[str]], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"any [*] name.{kind}"
    file.write_bytes(COMPRESSIONS[kind](archive(FILES)))
    assert built(str(file)) == {"Dockerfile", "a/hello"}


def test_a_link_to_an_archive_is_a_context(built: Callable[..., set[str]], tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real").write_bytes(archive(FILES))
    (tmp_path / "link").symlink_to("far/real")
    assert built("link", cwd=str(tmp_path)) == {"Dockerfile", "a/hello"}


def test_an_archive_from_a_process_substitution_is_a_context(pybuild: Pybuild, out: Path, tmp_path: Path) -> None:
    (tmp_path / "ctx.tar").write_bytes(archive(FILES))
    run_in_bash(pybuild, f"-o type=local,dest={out} <(cat {tmp_path}/ctx.tar)")
    assert contents(out) == {"Dockerfile", "a/hello"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_any_form_of_tar_is_known_by_its_first_header(built: Callable[..., set[str]], form: int) -> None:
    long = "n" * 90
    assert built("-", input=archive({f"{long}": "", **FILES}, form=form)) == {long, "Dockerfile", "a/hello"}


def test_an_archive_that_tar_makes_of_a_folder(built: Callable[..., set[str]], context: Context) -> None:
    data = subprocess.run(["tar", "c", "."], cwd=context({**FILES}), capture_output=True, check=True).stdout
    assert built("-", input=data) == {"Dockerfile", "a/hello"}


def test_the_dockerfile_of_an_archive_is_named_within_it(built: Callable[..., set[str]]) -> None:
    data = archive({**FILES, "docker/Other": OTHER})
    assert built("-f", "docker/Other", "-", input=data) == {"other"}


def test_an_absolute_name_with_an_archive_on_standard_input_is_a_name_within_it(built: Callable[..., set[str]]) -> None:
    assert built("-f", "/docker/Other", "-", input=archive({**FILES, "docker/Other": OTHER})) == {"other"}


def test_an_archive_file_with_a_dockerfile_from_elsewhere(built: Callable[..., set[str]], tmp_path: Path) -> None:
    (tmp_path / "ctx.tar").write_bytes(archive(FILES))
    (tmp_path / "Other").write_text(OTHER)
    assert built("-f", str(tmp_path / "Other"), str(tmp_path / "ctx.tar")) == {"other"}
    assert built("-f", "-", str(tmp_path / "ctx.tar"), input=OTHER.encode()) == {"other"}


def test_owners_times_and_modes_are_those_of_the_archive(pybuild: Pybuild, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, text in (("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "f")):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.gid, info.mode = len(text), 1234567, 7, 8, 0o604
            tar.addfile(info, io.BytesIO(text.encode()))
    pybuild.ok("-o", f"type=tar,dest={tmp_path}/out.tar", "-", input=data.getvalue())
    with tarfile.open(tmp_path / "out.tar") as tar:
        f = tar.getmember("f")
    assert (f.mtime, f.mode, f.uid, f.gid) == (1234567, 0o604, 7, 8)


@pytest.mark.parametrize("named", [False, True], ids=["standard input", "file"])
def test_the_time_of_an_archive_is_that_of_its_newest_file(pybuild: Pybuild, out: Path, tmp_path: Path, named: bool) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        text = b"FROM scratch AS a\nARG SOURCE_DATE_EPOCH\nCOPY <<E /time\n$SOURCE_DATE_EPOCH\nE\n"
        for name, content, mtime in (("Dockerfile", text, 1_400_000_000), ("old", b"", 1_300_000_000)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "context.tgz").write_bytes(data.getvalue())
    flags = ("--build-arg", "SOURCE_DATE_EPOCH=context", "-o", f"type=local,dest={out}")
    pybuild.ok(*flags, str(tmp_path / "context.tgz") if named else "-", input=b"" if named else data.getvalue())
    assert (out / "time").read_text() == "1400000000\n"


def test_the_same_archive_again_is_cached(pybuild: Pybuild) -> None:
    data = archive({"Dockerfile": "FROM scratch\nCOPY a /b\n", "a": "1"})
    pybuild.ok("-", input=data)
    assert pybuild.ok("-", input=data).not_cached() == {}
    changed = pybuild.ok("-", input=archive({"Dockerfile": "FROM scratch\nCOPY a /b\n", "a": "2"}))
    assert changed.not_cached(), "other files are another context"


def test_ignore_files_of_an_archive_do_not_count(built: Callable[..., set[str]]) -> None:
    """As with BuildKit: dockerui gives no patterns where the context is no local folder."""
    files = {**FILES, ".dockerignore": "a\n", "Dockerfile.dockerignore": "a\n"}
    assert built("-", input=archive(files)) == {"Dockerfile", "a/hello", ".dockerignore", "Dockerfile.dockerignore"}


def test_a_truncated_archive_is_an_error(pybuild: Pybuild, tmp_path: Path) -> None:
    plain = archive({"Dockerfile": FILES["Dockerfile"], "big": "x" * 100_000})
    assert_refused(pybuild("-", input=plain[:50_000]), "/context")
    assert_refused(pybuild("-", input=gzip.compress(plain)[:100]), "ailed to read dockerfile")


def test_an_archive_without_a_dockerfile_says_so(pybuild: Pybuild) -> None:
    assert_refused(pybuild("-", input=archive({"app.Dockerfile": "x"})), "open Dockerfile: no such file", "app.Dockerfile")
    assert_refused(pybuild("-f", "x/y", "-", input=archive(FILES)), "open x/y: no such file")


def test_an_archive_without_files_says_so(pybuild: Pybuild) -> None:
    assert_refused(pybuild("-", input=archive({})), "holds no files")


def test_a_compressed_file_that_is_no_archive_has_no_dockerfile(pybuild: Pybuild) -> None:
    assert_refused(pybuild("-", input=gzip.compress(b"FROM scratch\n")), "open Dockerfile: no such file")


def test_empty_standard_input_is_an_error(pybuild: Pybuild) -> None:
    assert_refused(pybuild("-"), "failed to peek context header from STDIN")


def test_what_is_neither_archive_nor_dockerfile_is_refused(pybuild: Pybuild, tmp_path: Path) -> None:
    assert_refused(pybuild("-", input=b"PK\3\4 a zip archive\n"), "unknown instruction")
    (tmp_path / "x.zip").write_bytes(b"PK\3\4")
    assert_refused(pybuild(str(tmp_path / "x.zip")), "neither a directory nor an archive")
    os.mkfifo(tmp_path / "fifo")
    assert_refused(pybuild(str(tmp_path / "fifo")), "neither a directory nor an archive")


# ------------------------------------------------------------------------------------------------ a Dockerfile from elsewhere
def test_a_dockerfile_on_standard_input_has_an_empty_context(built: Callable[..., set[str]]) -> None:
    assert built("-", input=b"FROM scratch\nCOPY <<e /made\ne\nCOPY . /\n") == {"made"}


def test_a_dockerfile_on_standard_input_with_a_folder(built: Callable[..., set[str]], context: Context) -> None:
    folder = context({**FILES, "a/secret": "", ".dockerignore": "a/secret\n"})
    assert built("-f", "-", folder, input=b"FROM scratch\nCOPY a /\n") == {"hello"}


def test_a_dockerfile_from_a_process_substitution(pybuild: Pybuild, context: Context, out: Path) -> None:
    folder = context({**FILES})
    run_in_bash(pybuild, f"-o type=local,dest={out} -f <(printf 'FROM scratch\\nCOPY a/hello /other\\n') {folder}")
    assert contents(out) == {"other"}


def test_a_dockerfile_by_the_name_of_standard_input(built: Callable[..., set[str]], context: Context) -> None:
    assert built("-f", "/dev/stdin", context({**FILES}), input=OTHER.encode()) == {"other"}


@pytest.mark.parametrize("file", ["-", "/dev/stdin", "/dev/fd/0"])
def test_standard_input_is_read_for_one_thing_only(pybuild: Pybuild, file: str) -> None:
    assert_refused(pybuild("-f", file, "-", input=b"x"), "can't use stdin for both build context and dockerfile")


def test_a_dockerfile_on_standard_input_and_another_by_flag_are_one_too_many(pybuild: Pybuild) -> None:
    assert_refused(pybuild("-f", "Other", "-", input=b"FROM scratch\n"), "ambiguous Dockerfile source")


def test_a_dockerfile_outside_of_the_context(built: Callable[..., set[str]], context: Context) -> None:
    place = context({"sub/Other": OTHER, "sub/Other.dockerignore": "a/left\n"})
    folder = context({"a/hello": "", "a/left": "", ".dockerignore": "a\n"})
    assert built("-f", f"{place}/sub/Other", folder) == {"other"}
    assert built("-f", "sub/../sub/Other", folder, cwd=place) == {"other"}


# ------------------------------------------------------------------------------------------------ git and http
@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its URL."""
    folder = tmp_path / "web"
    folder.mkdir()
    with served(str(folder)) as url:
        yield folder, url


def commit(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    env = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=t", "-c", "user.email=t@example", "-c", "init.defaultBranch=main"]
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "c"], ["branch", "-f", "v1"], ["update-server-info"]):
        subprocess.run(["git", *who, *args], cwd=folder, env=env, check=True, capture_output=True)


def test_a_git_repository_is_a_context(built: Callable[..., set[str]], web: tuple[Path, str]) -> None:
    folder, url = web
    commit(folder / "r", {**FILES, ".dockerignore": "a\n"})
    assert built(f"{url}/r/.git") == {"Dockerfile", "a/hello", ".dockerignore"}, "a repository's .dockerignore does not count"


def test_a_folder_of_a_repository_at_a_reference(built: Callable[..., set[str]], web: tuple[Path, str]) -> None:
    folder, url = web
    files = {"sub/Dockerfile": "FROM scratch\nCOPY . /\n", "sub/f": "", "top": "", "sub/x/Other": "FROM scratch\nCOPY f /g\n"}
    commit(folder / "r", files)
    assert built(f"{url}/r/.git#v1:sub") == {"Dockerfile", "f", "x/Other"}
    assert built("-f", "x/Other", f"{url}/r/.git#:sub") == {"g"}


def test_a_repository_with_a_dockerfile_of_this_machine(
    built: Callable[..., set[str]], web: tuple[Path, str], context: Context
) -> None:
    folder, url = web
    commit(folder / "r", FILES)
    assert built("-f", f"{context({'Other': OTHER})}/Other", f"{url}/r/.git") == {"other"}
    assert built("-f", "-", f"{url}/r/.git", input=OTHER.encode()) == {"other"}


@pytest.mark.parametrize("kind", ["tar", "tar.zst"])
def test_an_archive_by_http_is_a_context(built: Callable[..., set[str]], web: tuple[Path, str], kind: str) -> None:
    folder, url = web
    (folder / "ctx").write_bytes(COMPRESSIONS[kind](archive({**FILES, "x/Other": OTHER})))
    assert built(f"{url}/ctx") == {"Dockerfile", "a/hello", "x/Other"}
    assert built("-f", "x/Other", f"{url}/ctx") == {"other"}


def test_a_dockerfile_by_http_is_all_of_its_context(built: Callable[..., set[str]], web: tuple[Path, str]) -> None:
    folder, url = web
    (folder / "df").write_text("FROM scratch\nCOPY <<e /made\ne\n")
    assert built(f"{url}/df") == {"made"}


def test_the_flag_takes_a_dockerfile_by_http(built: Callable[..., set[str]], web: tuple[Path, str], context: Context) -> None:
    folder, url = web
    (folder / "df").write_text(OTHER)
    assert built("-f", f"{url}/df", context({**FILES, ".dockerignore": "a/x"})) == {"other"}
    assert built("-f", f"{url}/df", "-", input=archive(FILES)) == {"other"}


def test_a_dockerfile_by_http_is_bounded(pybuild: Pybuild, web: tuple[Path, str], context: Context) -> None:
    folder, url = web
    (folder / "df").write_text("#" * (3 << 20))
    assert_refused(pybuild("-f", f"{url}/df", context({**FILES})), "bigger than allowed")


# ------------------------------------------------------------------------------------------------ links and what never ends
@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    """What no build may show: a file of the host beside the context."""
    file = tmp_path / "host" / "passwords"
    file.parent.mkdir()
    file.write_text("hunter2 is the password\n")
    return file


def assert_kept(done: Done, *causes: str) -> None:
    assert_refused(done, *causes)
    assert "hunter2" not in done.err + done.out


@pytest.mark.parametrize("flag", [(), ("-f", "{}/Dockerfile"), ("-f", "{}/Dockerfile", "--call", "check"), ("--call", "outline")])
def test_a_dockerfile_that_links_out_of_its_folder_is_no_file(
    pybuild: Pybuild, context: Context, host_file: Path, flag: tuple[str, ...]
) -> None:
    folder = context({"x": ""})
    os.symlink(host_file, f"{folder}/Dockerfile")
    assert_kept(pybuild(*(f.format(folder) for f in flag), folder), "open Dockerfile: no such file or directory", "is a link to")


@pytest.mark.parametrize("target", ["../../host/passwords", "deep/../../../host/passwords", "/proc/self/cwd/host/passwords"])
def test_no_link_of_any_form_leads_out(pybuild: Pybuild, tmp_path: Path, host_file: Path, target: str) -> None:
    folder = tmp_path / "a" / "b"
    (folder / "deep").mkdir(parents=True)
    (folder / "Dockerfile").symlink_to(target)
    assert_kept(pybuild(str(folder), cwd=tmp_path), "open Dockerfile: no such file or directory")


def test_a_link_within_the_folder_is_followed(built: Callable[..., set[str]], context: Context) -> None:
    folder = context({"docker/real": OTHER, "a/hello": "", "docker/real.dockerignore": "*", "ignore": "x\n", "x": ""})
    os.symlink("/docker/real", f"{folder}/Dockerfile")
    os.symlink("ignore", f"{folder}/.dockerignore")
    assert built(folder) == {"other"}


def test_the_folder_of_a_named_dockerfile_may_be_a_link(built: Callable[..., set[str]], context: Context, tmp_path: Path) -> None:
    """The user's word is followed; buildx opens the folder of -f wherever it is."""
    folder = context({"a/hello": ""})
    os.symlink(context({"Other": OTHER}), f"{folder}/docker")
    assert built("-f", f"{folder}/docker/Other", folder) == {"other"}


@pytest.mark.parametrize("name", [".dockerignore", "Dockerfile.dockerignore"])
def test_an_ignore_file_that_links_out_of_its_folder_is_not_obeyed_and_that_is_said(
    pybuild: Pybuild, context: Context, out: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "patterns").write_text("a\n")
    folder = context({**FILES})
    os.symlink(tmp_path / "patterns", f"{folder}/{name}")
    done = pybuild.ok("-o", f"type=local,dest={out}", folder)
    assert (out / "a" / "hello").exists()
    assert f"{name} is not obeyed: it is a link out of its folder, to {tmp_path}/patterns" in done.err


def test_a_named_context_reads_its_ignore_file_beneath_itself(
    pybuild: Pybuild, context: Context, out: Path, host_file: Path
) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY --from=dep . /\n"})
    dep = context({"hunter2 is the password": "", "f": "", ".dockerignore": "f\n"})
    pybuild.ok("-o", f"type=local,dest={out}", "--build-context", f"dep={dep}", folder)
    assert contents(out) == {"hunter2 is the password", ".dockerignore"}
    os.unlink(f"{dep}/.dockerignore")
    os.symlink(host_file, f"{dep}/.dockerignore")
    done = pybuild.ok("-o", f"type=local,dest={out}", "--build-context", f"dep={dep}", folder)
    assert contents(out) == {"hunter2 is the password", ".dockerignore", "f"}
    assert "context dep: .dockerignore is not obeyed" in done.err


def test_a_link_in_an_archive_leads_nowhere_else(pybuild: Pybuild, host_file: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.type, info.linkname = tarfile.SYMTYPE, str(host_file)
        tar.addfile(info)
    assert_kept(pybuild("-", input=data.getvalue()), "open Dockerfile: no such file or directory")


def test_a_link_in_a_repository_leads_nowhere_else(pybuild: Pybuild, web: tuple[Path, str], host_file: Path) -> None:
    folder, url = web
    (folder / "r").mkdir()
    (folder / "r" / "Dockerfile").symlink_to(host_file)
    commit(folder / "r", {"f": ""})
    assert_kept(pybuild(f"{url}/r/.git"), "open Dockerfile: no such file or directory")


def test_a_fifo_is_no_dockerfile_and_no_ignore_file(pybuild: Pybuild, context: Context) -> None:
    folder = context({"x": ""})
    os.mkfifo(f"{folder}/Dockerfile")
    assert_refused(pybuild(folder), "Dockerfile is not a regular file")
    os.unlink(f"{folder}/Dockerfile")
    Path(folder, "Dockerfile").write_text("FROM scratch\nCOPY x /\n")
    for name in (".dockerignore", "Dockerfile.dockerignore"):
        os.mkfifo(f"{folder}/{name}")
        assert_refused(pybuild(folder), f"failed to read dockerignore patterns: {name} is not a regular file")
        os.unlink(f"{folder}/{name}")


def test_a_fifo_of_a_named_context_is_no_ignore_file(pybuild: Pybuild, context: Context) -> None:
    dep = context({"x": ""})
    os.mkfifo(f"{dep}/.dockerignore")
    folder = context({"Dockerfile": "FROM scratch\nCOPY --from=dep x /\n"})
    assert_refused(pybuild("--build-context", f"dep={dep}", folder), "context dep", ".dockerignore is not a regular file")


def test_a_fifo_in_an_archive_is_no_dockerfile(pybuild: Pybuild) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.type = tarfile.FIFOTYPE
        tar.addfile(info)
    assert_refused(pybuild("-", input=data.getvalue()), "Dockerfile is not a regular file")


def test_a_fifo_in_a_context_is_copied_as_one(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY d /\n", "d/f": ""})
    os.mkfifo(f"{folder}/d/fifo")
    pybuild.ok("-o", f"type=tar,dest={tmp_path}/out.tar", folder)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getmember("fifo").isfifo()


# ------------------------------------------------------------------------------------------------ secrets
def test_a_secret_from_a_process_substitution(pybuild: Pybuild, context: Context, busybox: str, out: Path) -> None:
    step = "--mount=type=secret,id=s cat /run/secrets/s"
    dockerfile = f"FROM {busybox} AS b\nRUN {step} > /a\nRUN {step} > /b\nFROM scratch\nCOPY --from=b /a /b /\n"
    folder = context({"Dockerfile": dockerfile})
    run_in_bash(pybuild, f"-o type=local,dest={out} --secret id=s,src=<(echo hunter2) {folder}")
    assert [(out / n).read_text() for n in "ab"] == ["hunter2\n", "hunter2\n"]


def test_standard_input_is_no_secret_and_dockerfile_at_once(pybuild: Pybuild, context: Context) -> None:
    done = pybuild("--secret", "id=x,src=/dev/stdin", "-f", "-", context({}), input=b"FROM scratch\n")
    assert_refused(done, "can't use /dev/stdin for both a secret and the build context or dockerfile")


# ------------------------------------------------------------------------------------------------ podman's names
def test_a_containerfile_is_built_where_there_is_no_dockerfile(pybuild: Pybuild, context: Context, out: Path) -> None:
    folder = context({"Containerfile": "FROM scratch\nCOPY . /\n", ".containerignore": "left\n", "left": "", "f": ""})
    done = pybuild.ok("-o", f"type=local,dest={out}", folder)
    assert contents(out) == {"Containerfile", ".containerignore", "f"}
    assert "there is no Dockerfile: Containerfile is built" in done.err
    assert ".containerignore says what the build leaves out: there is no .dockerignore" in done.err


def test_a_dockerfile_goes_before_a_containerfile(pybuild: Pybuild, context: Context, out: Path) -> None:
    folder = context({"Containerfile": "broken", ".containerignore": "*\n", "Dockerfile": "FROM scratch\nCOPY f /\n", "f": ""})
    done = pybuild.ok("-o", f"type=local,dest={out}", folder)
    assert contents(out) == {"f"}, ".containerignore counts for a Containerfile only"
    assert "ontainerfile" not in done.err


@pytest.mark.parametrize("flags", [["--check"], ["--call=outline"], ["--call=targets"], ["-o", "type=cacheonly"]])
def test_the_word_about_a_containerfile_is_said_whatever_comes_of_it(
    pybuild: Pybuild, context: Context, flags: list[str]
) -> None:
    """Of a question, and of a build that fails: that another file was read than one thinks may be why."""
    folder = context({"Containerfile": "FROM scratch\nCOPY missing /\n"})
    done = pybuild(*flags, folder)
    assert done.code == (1 if "-o" in flags else 0)
    assert done.err.count("there is no Dockerfile: Containerfile is built") == 1


def test_a_containerfile_is_found_in_an_archive(pybuild: Pybuild, out: Path) -> None:
    done = pybuild.ok("-o", f"type=local,dest={out}", "-", input=archive({"Containerfile": "FROM scratch\nCOPY f /\n", "f": ""}))
    assert contents(out) == {"f"}
    assert "Containerfile is built" in done.err


# ------------------------------------------------------------------------------------------------ support
def run_in_bash(pybuild: Pybuild, arguments: str) -> None:
    command = " ".join(pybuild.command()) + " " + arguments
    done = subprocess.run(["bash", "-c", command], env=pybuild.environment(), input=b"", capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr.decode()

"""Git repositories, with real git over git:// and dumb http on loopback."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import AuthError, CancelledError, IntegrityError, NotFoundError, SourceError
from builder.graph.ops import GitSource
from builder.session import Session
from builder.sources.git import GitFetcher
from builder.sources.gitcli import Git
from builder.state.cancel import Token, scope
from builder.values import replace
from builder.worker import Worker
from tests.builder.sources.conftest import files
from tests.support.processes import Server

pytestmark = pytest.mark.integration
DATE = "2024-01-02T03:04:05Z"
SECONDS = 1704164645


def git(folder: str, *args: str, check: bool = True) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "t", f"GIT_{who}_EMAIL": "t@example", f"GIT_{who}_DATE": DATE}
    command = ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *args]
    return subprocess.run(command, cwd=folder, env=env, check=check, capture_output=True, text=True).stdout.strip()


class Repository:
    """A work tree whose ``.git`` is served."""

    def __init__(self, folder: str, *, form: str = "sha1") -> None:
        self.folder = folder
        os.makedirs(folder)
        git(folder, "init", "--quiet", f"--object-format={form}")

    def commit(self, **contents: str) -> str:
        """Write files (``__`` in a name is a slash) and commit; gives the commit."""
        for name, text in contents.items():
            path = os.path.join(self.folder, name.replace("__", "/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "--quiet", "-m", "change")
        return self.serve()

    def serve(self) -> str:
        git(self.folder, "update-server-info")
        return git(self.folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def daemon(area: str) -> Iterator[str]:
    """git://... of everything in the area."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = ["git", "daemon", "--verbose", "--log-destination=stderr", "--export-all", "--listen=127.0.0.1", f"--port={port}"]
    server = Server([*command, f"--base-path={area}", area], "Ready to rumble", cwd=area)
    yield f"git://127.0.0.1:{port}"
    server.stop()


class _Handler(http.server.SimpleHTTPRequestHandler):
    seen: list[tuple[str, str]] = []  # noqa: RUF012 (one server a module)

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        if self.path.startswith("/private") and not self.headers.get("Authorization", ""):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def dumb(area: str) -> Iterator[str]:
    """http://... of everything in the area, as files: no git on the other side."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=area))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def repository(area: str, request: pytest.FixtureRequest) -> Repository:
    return Repository(f"{area}/{request.node.name.replace('/', '-')}")


def remote(base: str, repository: Repository) -> str:
    return f"{base}/{os.path.basename(repository.folder)}/.git"


def content(worker: Worker, source: GitSource, session: Session | None = None) -> dict[str, str]:
    ref = GitFetcher(worker, session or Session(), source).snapshot()
    try:
        return files(ref)
    finally:
        ref.release()


# ------------------------------------------------------------------------------------------------ what is fetched
@pytest.mark.parametrize("transport", ["daemon", "dumb"])
@pytest.mark.parametrize("form", ["sha1", "sha256"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_branch_a_tag_and_a_commit(
    worker: Worker, area: str, request: pytest.FixtureRequest, transport: str, form: str, kept: bool
) -> None:
    repository = Repository(f"{area}/all-{transport}-{form}-{kept}", form=form)
    first = repository.commit(a="one")
    git(repository.folder, "tag", "-a", "-m", "x", "v1")
    git(repository.folder, "tag", "light")
    git(repository.folder, "checkout", "--quiet", "-b", "feature/x")
    repository.commit(a="two")
    git(repository.folder, "checkout", "--quiet", "main")
    repository.commit(a="three")
    source = GitSource(remote(request.getfixturevalue(transport), repository), keep_git_dir=kept)
    wanted = {"": "three", "main": "three", "refs/heads/main": "three", "feature/x": "two", "v1": "one", "light": "one",
              "refs/tags/v1": "one", first: "one"}  # fmt: skip
    for ref, text in wanted.items():
        found = GitFetcher(worker, Session(), replace(source, ref=ref)).snapshot()
        with found.mount() as folder:
            with open(f"{folder}/a") as file:
                assert file.read() == text
            assert os.path.isdir(f"{folder}/.git") == kept
            if kept:
                assert git(folder, "-c", "safe.directory=*", "status", "--porcelain") == ""
                assert git(folder, "-c", "safe.directory=*", "remote", "get-url", "origin") == source.remote
        found.release()


def test_a_branch_that_moved_is_fetched_anew_and_the_old_commit_stays(worker: Worker, daemon: str, repository: Repository) -> None:
    source = GitSource(remote(daemon, repository), "main")
    old = repository.commit(a="one")
    assert content(worker, source) == {"a": "one"}
    repository.commit(a="two")
    assert content(worker, source) == {"a": "two"}
    assert content(worker, replace(source, ref=old)) == {"a": "one"}


def test_a_branch_that_became_a_folder_of_branches(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(a="one")
    git(repository.folder, "branch", "x")
    source = GitSource(remote(daemon, repository), "x")
    assert content(worker, source) == {"a": "one"}
    git(repository.folder, "branch", "-m", "x", "x/y")
    assert content(worker, replace(source, ref="x/y")) == {"a": "one"}


def test_a_tag_that_was_moved(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(a="one")
    git(repository.folder, "tag", "v1")
    source = GitSource(remote(daemon, repository), "v1", keep_git_dir=True)
    GitFetcher(worker, Session(), source).snapshot().release()
    repository.commit(a="two")
    git(repository.folder, "tag", "-f", "v1")
    ref = GitFetcher(worker, Session(), source).snapshot()
    with ref.mount() as folder, open(f"{folder}/a") as file:
        assert file.read() == "two"
    ref.release()


def test_the_key_is_the_commit_not_the_name(worker: Worker, daemon: str, repository: Repository) -> None:
    commit = repository.commit(a="one")
    git(repository.folder, "tag", "-a", "-m", "x", "v1")
    source = GitSource(remote(daemon, repository))
    keys = {GitFetcher(worker, Session(), replace(source, ref=ref)).key() for ref in ("", "main", "v1", commit)}
    assert len(keys) == 1
    assert GitFetcher(worker, Session(), replace(source, subdir="a")).key() not in keys
    assert GitFetcher(worker, Session(), replace(source, keep_git_dir=True)).key() not in keys
    assert GitFetcher(worker, Session(), replace(source, mtime_commit=True)).key() not in keys


def test_the_same_commit_is_checked_out_once(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(a="one")
    first, second = (GitFetcher(worker, Session(), GitSource(remote(daemon, repository), r)).snapshot() for r in ("", "main"))
    assert first.id == second.id
    first.release()
    second.release()


def test_checksums_may_be_short_and_name_tag_or_commit(worker: Worker, daemon: str, repository: Repository) -> None:
    commit = repository.commit(a="one")
    git(repository.folder, "tag", "-a", "-m", "x", "v1")
    tag = git(repository.folder, "rev-parse", "v1")
    source = GitSource(remote(daemon, repository), "v1")
    for checksum in (commit, commit[:8], tag):
        assert content(worker, replace(source, checksum=checksum)) == {"a": "one"}
    for ref in ("v1", "main", commit):
        with pytest.raises(IntegrityError, match="expected checksum to match 0000"):
            content(worker, replace(source, ref=ref, checksum="0000"))
    with pytest.raises(SourceError, match="expected hex commit hash"):
        content(worker, replace(source, checksum="xyz"))


def test_fetch_by_commit_trusts_the_checksum(worker: Worker, daemon: str, repository: Repository) -> None:
    commit = repository.commit(a="one")
    repository.commit(a="two")
    source = GitSource(remote(daemon, repository), "main", checksum=commit, fetch_by_commit=True)
    assert content(worker, source) == {"a": "one"}
    ref = GitFetcher(worker, Session(), replace(source, keep_git_dir=True)).snapshot()
    with ref.mount() as folder:
        assert git(folder, "-c", "safe.directory=*", "rev-parse", "main") == commit
    ref.release()
    with pytest.raises(SourceError, match="fetch-by-commit requires"):
        content(worker, replace(source, checksum=""))


def test_times_and_modes(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(d__a="one")
    os.chmod(f"{repository.folder}/d/a", 0o777)
    os.symlink("a", f"{repository.folder}/d/link")
    repository.commit()
    fetcher = GitFetcher(worker, Session(), GitSource(remote(daemon, repository), mtime_commit=True))
    assert fetcher.commit_time() == SECONDS
    ref = fetcher.snapshot()
    with ref.mount() as folder:
        assert os.stat(f"{folder}/d/a").st_mode & 0o7777 == 0o755
        for path in ("d", "d/a", "d/link"):
            assert os.lstat(f"{folder}/{path}").st_mtime == SECONDS
    ref.release()


# ------------------------------------------------------------------------------------------------ subdir
def test_of_a_subdir_the_content_becomes_the_root(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(a="one", sub__deep__b="two", sub__deep__deep__c="three")
    source = GitSource(remote(daemon, repository), subdir="/sub/deep/")
    assert content(worker, source) == {"b": "two", "deep/c": "three"}
    assert content(worker, replace(source, subdir="../../sub/deep")) == {"b": "two", "deep/c": "three"}
    assert content(worker, replace(source, subdir="../..")) == {"a": "one", "sub/deep/b": "two", "sub/deep/deep/c": "three"}


def test_a_subdir_leads_through_no_link(worker: Worker, daemon: str, repository: Repository, tmp_path: Path) -> None:
    """The folder outside is the test's own: without the guard all that is in it is moved away."""
    outside = tmp_path / "outside"
    (outside / "ssl").mkdir(parents=True)
    repository.commit(real__a="one")
    os.symlink(outside, f"{repository.folder}/out")
    os.symlink("real", f"{repository.folder}/in")
    repository.commit()
    source = GitSource(remote(daemon, repository))
    for subdir in ("out", "in", "out/ssl", "real/a"):
        with pytest.raises(SourceError, match="contains non-directory"):
            content(worker, replace(source, subdir=subdir))
    with pytest.raises(NotFoundError, match='failed to lstat "nowhere"'):
        content(worker, replace(source, subdir="nowhere"))
    assert content(worker, replace(source, subdir="real")) == {"a": "one"}
    assert os.listdir(outside) == ["ssl"]


# ------------------------------------------------------------------------------------------------ submodules
@pytest.mark.parametrize("kept", [False, True])
def test_submodules_come_along_unless_skipped(worker: Worker, daemon: str, area: str, kept: bool) -> None:
    inner = Repository(f"{area}/inner-{kept}")
    inner.commit(x="inside")
    outer = Repository(f"{area}/outer-{kept}")
    outer.commit(a="one")
    git(outer.folder, "submodule", "--quiet", "add", f"{area}/inner-{kept}/.git", "mod")
    git(outer.folder, "config", "-f", ".gitmodules", "submodule.mod.url", f"../../inner-{kept}/.git")
    outer.commit()
    source = GitSource(remote(daemon, outer), keep_git_dir=kept)
    ref = GitFetcher(worker, Session(), source).snapshot()
    with ref.mount() as folder:
        assert os.path.exists(f"{folder}/mod/x")
        with open(f"{folder}/mod/.git") as file:
            assert file.read() == "gitdir: ../.git/modules/mod\n"
    ref.release()
    ref = GitFetcher(worker, Session(), replace(source, skip_submodules=True)).snapshot()
    with ref.mount() as folder:
        assert not os.path.exists(f"{folder}/mod/x")
    ref.release()


@pytest.mark.parametrize("url", ["/etc", "file:///etc", "ext::sh -c touch% /tmp/pwned", "-u./payload:x"])
def test_a_submodule_reaches_nothing_of_the_host(worker: Worker, daemon: str, area: str, url: str) -> None:
    secret = Repository(f"{area}/local-{abs(hash(url))}")
    commit = secret.commit(x="host file")
    outer = Repository(f"{area}/evil-{abs(hash(url))}")
    outer.commit(a="one")
    target = f"{secret.folder}/.git" if url == "/etc" else f"file://{secret.folder}/.git" if url == "file:///etc" else url
    with open(f"{outer.folder}/.gitmodules", "w") as file:
        file.write(f'[submodule "mod"]\n\tpath = mod\n\turl = {target}\n')
    git(outer.folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},mod")
    git(outer.folder, "add", ".gitmodules")
    git(outer.folder, "commit", "--quiet", "-m", "evil")
    outer.serve()
    with pytest.raises(SourceError, match="submodule"):
        content(worker, GitSource(remote(daemon, outer)))
    assert not os.path.exists("/tmp/pwned")


# ------------------------------------------------------------------------------------------------ hardening
@pytest.mark.parametrize("url", ["ext::sh -c id", "file:///etc", "/etc", "-oProxyCommand=id", "fd::7", "git://h/a\nb"])
def test_what_is_no_remote_is_refused_before_git_sees_it(worker: Worker, url: str) -> None:
    with pytest.raises(SourceError, match="is no git remote"):
        GitFetcher(worker, Session(), GitSource(url))


@pytest.mark.parametrize("ref", ["--upload-pack=id", "-x", "+a", "a b", "a:b", "a..b", "a\nb", "a*", "@{-1}"])
def test_what_is_no_ref_is_refused(worker: Worker, ref: str) -> None:
    with pytest.raises(SourceError, match="invalid git ref"):
        GitFetcher(worker, Session(), GitSource("git://h/a", ref))


def test_hooks_configuration_and_environment_of_the_host_do_not_count(
    worker: Worker, daemon: str, repository: Repository, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(a="one")
    hook = f"{tmp_path}/hooks/post-checkout"
    os.makedirs(os.path.dirname(hook))
    with open(hook, "w") as file:
        file.write(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    os.chmod(hook, 0o755)
    with open(f"{tmp_path}/config", "w") as file:
        file.write(f'[core]\nhooksPath = {tmp_path}/hooks\n[url "git://nowhere.invalid/"]\ninsteadOf = git://127.0.0.1\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", f"{tmp_path}/config")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", f"{tmp_path}")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert content(worker, GitSource(remote(daemon, repository))) == {"a": "one"}
    ref = GitFetcher(worker, Session(), GitSource(remote(daemon, repository), keep_git_dir=True)).snapshot()
    ref.release()
    assert not os.path.exists(f"{tmp_path}/ran")


def test_nothing_that_a_repository_names_is_executed(tmp_path: Path, area: str) -> None:
    """Hooks, a monitor of files, helpers for credentials and for protocols: all are programs that its folder may name."""
    repository = Repository(f"{area}/programs")
    commit = repository.commit(a="one")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {tmp_path}/ran\n")
    program.chmod(0o755)
    for name in ("post-checkout", "post-index-change"):
        os.makedirs(f"{repository.folder}/.git/hooks", exist_ok=True)
        os.symlink(program, f"{repository.folder}/.git/hooks/{name}")
    git(repository.folder, "config", "core.fsmonitor", str(program))
    git(repository.folder, "config", "credential.helper", str(program))
    ours = Git(git_dir=f"{repository.folder}/.git", work_tree=repository.folder)
    ours.run("checkout", "--quiet", commit, "--")
    ours.run("status")
    with pytest.raises(SourceError, match="transport 'ext' not allowed"):
        ours.with_(config={"protocol.ext.allow": "always"}).run("ls-remote", "--", f"ext::{program}")
    # An empty name forgets all helpers before it.
    assert ours.run("config", "--get-all", "credential.helper") == f"{program}\n\n"
    assert not (tmp_path / "ran").exists()
    git(repository.folder, "status")
    assert (tmp_path / "ran").exists(), "the program would be found"


@pytest.mark.parametrize(
    ("name", "value"),
    [("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_ATTR_NOSYSTEM", "1"), ("HOME", "/dev/null"),
     ("GIT_TERMINAL_PROMPT", "0"), ("GIT_SSH", None), ("GIT_PROXY_COMMAND", None), ("LD_PRELOAD", None)],
)  # fmt: skip
def test_git_sees_nothing_of_the_host_s_settings(name: str, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "of the host")
    assert Git()._environment().get(name) == value


def test_credentials_of_an_address_are_shown_and_kept_nowhere(worker: Worker, dumb: str, repository: Repository) -> None:
    repository.commit(a="one")
    logged: list[bytes] = []
    url = remote(dumb, repository).replace("http://", "http://me:s3cret@")
    ref = GitFetcher(worker, Session(), GitSource(url, keep_git_dir=True), log=logged.append).snapshot()
    with ref.mount() as folder:
        for base in (folder, worker.layout.root):
            assert subprocess.run(["grep", "-r", "-l", "s3cret", base], capture_output=True, check=False).stdout == b""
    ref.release()
    with pytest.raises(SourceError) as e:
        GitFetcher(worker, Session(), GitSource(url + "/nowhere.git"), log=logged.append).resolve()
    assert "s3cret" not in str(e.value) + str(e.value.hint) + repr(logged)


def test_whatever_git_prints_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper of git's, or a server, may say what git itself would not."""
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\necho 'fatal: t0ken of http://me:s3cret@host/x' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    logged: list[bytes] = []
    with pytest.raises(SourceError) as e:
        Git(secrets=("t0ken",), log=logged.append).run("fetch")
    assert str(e.value) == "git fetch: fatal: xxxxx of http://xxxxx:xxxxx@host/x"
    assert b"".join(logged) == b"fatal: xxxxx of http://xxxxx:xxxxx@host/x\n"


def test_a_token_is_sent_as_a_header_to_its_remote_only(worker: Worker, dumb: str, area: str) -> None:
    os.makedirs(f"{area}/private", exist_ok=True)
    shutil.rmtree(f"{area}/private/r", ignore_errors=True)
    Repository(f"{area}/private/r").commit(a="one")
    source = GitSource(f"{dumb}/private/r/.git")
    with pytest.raises(AuthError) as e:
        content(worker, source)
    assert "GIT_AUTH_TOKEN" in e.value.hint
    host = dumb.removeprefix("http://")
    secrets = {f"GIT_AUTH_TOKEN.{host}": b"t0ken", "GIT_AUTH_TOKEN": b"general"}
    assert content(worker, source, Session(secret=secrets.get)) == {"a": "one"}
    assert _Handler.seen[-1][1] == "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="
    grep = subprocess.run(["grep", "-r", "-l", "eC1hY2Nlc3M", worker.layout.root], capture_output=True, check=False)
    assert grep.stdout == b""


def test_ssh_needs_an_agent_that_was_given(worker: Worker) -> None:
    with pytest.raises(AuthError, match='no SSH key "default" forwarded'):
        GitFetcher(worker, Session(), GitSource("git@127.0.0.1:x/y.git")).resolve()


# ------------------------------------------------------------------------------------------------ failures
def test_a_ref_that_is_not_there_is_named(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(a="one")
    with pytest.raises(NotFoundError, match='repository does not contain ref nowhere, output: ""'):
        content(worker, GitSource(remote(daemon, repository), "nowhere"))
    with pytest.raises(SourceError):
        content(worker, GitSource(remote(daemon, repository), "0" * 40))


def test_a_remote_that_is_not_there_is_one_line(worker: Worker, daemon: str) -> None:
    for url in (daemon + "/nowhere", "git://127.0.0.1:1/x", "http://127.0.0.1:1/x.git"):
        with pytest.raises(SourceError) as e:
            GitFetcher(worker, Session(), GitSource(url)).resolve()
        assert "\n" not in str(e.value)


def test_an_interrupted_repository_is_mended(worker: Worker, daemon: str, repository: Repository) -> None:
    repository.commit(a="one")
    source = GitSource(remote(daemon, repository))
    content(worker, source)
    repository.commit(a="two")
    (bare,) = [p for name in os.listdir(worker.layout.git) if os.path.isdir(p := f"{worker.layout.git}/{name}")]
    with open(f"{bare}/shallow.lock", "w"):
        pass
    assert content(worker, source) == {"a": "two"}
    repository.commit(a="three")
    os.unlink(f"{bare}/HEAD")
    assert content(worker, source) == {"a": "three"}


def test_git_is_killed_when_nobody_waits_for_it(worker: Worker) -> None:
    cancelled = Token()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held: list[socket.socket] = []
        connected = threading.Thread(target=lambda: (held.append(silent.accept()[0]), cancelled.set()))
        connected.start()
        fetcher = GitFetcher(worker, Session(), GitSource(f"git://127.0.0.1:{silent.getsockname()[1]}/x"))
        with pytest.raises(CancelledError), scope(cancelled):
            fetcher.resolve()
        connected.join()
        # The other end of the connection was git's: it is gone.
        held[0].settimeout(10)
        while held[0].recv(1 << 16):
            pass
        held[0].close()

"""Credentials end to end: those in URLs are shown and kept nowhere (CVE-2023-26054), and none goes to another host by a redirect
(CVE-2020-15157)."""

from __future__ import annotations

import base64
import functools
import gzip
import http.server
import json
import os
import sqlite3
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builder.sources.test_git import Repository
from tests.support.cli import Done, Pybuild
from tests.support.gitserver import GitServer
from tests.support.oci import read_image
from tests.support.registries import LayoutRegistry

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]
TOKEN = "s3cr3t-t0ken"
BASIC = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files for those who have the password. ``/moved/...`` redirects to another server that keeps what it is sent."""

    asked: list[tuple[str, str]]
    elsewhere: str = ""

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "")
        self.asked.append((self.path, sent))
        if self.elsewhere and self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path.removeprefix("/moved"))
            self.end_headers()
        elif self.elsewhere and sent != BASIC:
            self.send_response(401)
            self.end_headers()
        else:
            super().do_GET()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


class Files:
    """A file server of a folder on loopback; with ``elsewhere`` it wants the password and redirects what is below ``/moved/``."""

    def __init__(self, folder: str, elsewhere: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        handler = type("Handler", (_Files,), {"asked": self.asked, "elsewhere": elsewhere})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def served(tmp_path: Path) -> str:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "tool").write_text("tool")
    with tarfile.open(folder / "ctx.tar.gz", "w:gz") as tar:
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /d\n")
        tar.add(tmp_path / "Dockerfile", "Dockerfile")
    return str(folder)


@pytest.fixture
def other(served: str) -> Iterator[Files]:
    server = Files(served)
    yield server
    server.stop()


@pytest.fixture
def files(served: str, other: Files) -> Iterator[Files]:
    server = Files(served, f"http://{other.host}")
    yield server
    server.stop()


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[GitServer]:
    area = f"{tmp_path}/repositories"
    Repository(f"{area}/r").commit(Dockerfile="FROM scratch\nCOPY a /a\n", a="one")
    with GitServer(area, private=("GET", "POST")) as server:
        yield server


def texts_in(root: str) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of every file below ``root`` and every value of its databases, as it is and unpacked."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            yield path, path.encode()
            if not os.path.isfile(path) or os.path.islink(path):
                continue
            with open(path, "rb") as file:
                data = file.read()
            yield path, data
            if data.startswith(b"\x1f\x8b"):
                yield path, gzip.decompress(data)
            if data.startswith(b"SQLite format 3"):
                yield from _values(path)


def _values(path: str) -> Iterator[tuple[str, bytes]]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as c:
        for (table,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in c.execute(f'SELECT * FROM "{table}"').fetchall():
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    yield f"{path}:{table}", data
                    try:
                        yield f"{path}:{table}", zlib.decompress(data)
                    except zlib.error:
                        pass


def assert_kept_nowhere(root: str, *secrets: str) -> None:
    for where, data in texts_in(root):
        for secret in secrets:
            assert secret.encode() not in data, f"{secret} is in {where}"


def assert_not_shown(*done: Done) -> None:
    for d in done:
        for text in (TOKEN, BASIC.removeprefix("Basic ")):
            assert text not in d.out + d.err, f"pybuild {' '.join(d.args)} shows it:\n{d.out}{d.err}"
        for line in d.err.splitlines():
            for log in json.loads(line).get("logs", ()) if line.startswith("{") else ():
                assert TOKEN.encode() not in base64.b64decode(log["data"])


# ------------------------------------------------------------------------------------------------ what is shown and kept
def test_credentials_in_the_urls_of_add(
    pybuild: Pybuild, context: Context, files: Files, repositories: GitServer, tmp_path: Path
) -> None:
    folder = context({
        "Dockerfile": f"FROM scratch\nARG URL=http://me:{TOKEN}@{files.host}/tool\n"
        f"ADD $URL http://me:{TOKEN}@{files.host}/ctx.tar.gz /\n"
        f"ADD --keep-git-dir=true http://me:{TOKEN}@{repositories.host}/r/.git /r\nLABEL x=y\n",
        "Broken": f"FROM scratch\nADD http://me:{TOKEN}@{files.host}/none /\n",
        "BrokenGit": f"FROM scratch\nADD http://me:{TOKEN}@{repositories.host}/none/.git /\n",
        "Typo": f"FROM scratch\nADD --nope http://me:{TOKEN}@{files.host}/tool /\n",
    })
    broken = ("Broken", "BrokenGit", "Typo")
    outs = [
        pybuild("plan", folder),
        pybuild.ok("--progress=plain", "--explain", "-t", "x", "--metadata-file", f"{tmp_path}/meta", folder),
        pybuild.ok("--progress=rawjson", "--no-cache", "-o", f"type=oci,dest={tmp_path}/x.tar", folder),
        pybuild.ok("graph", folder),
        pybuild.ok("graph", "--format=dot", folder),
        pybuild("plan", folder),
        pybuild.ok("why"),
        pybuild.ok("du", "--verbose"),
        pybuild.ok("--call=check", folder),
        *(pybuild(f"--progress={p}", "-f", f"{folder}/{f}", folder) for p in ("plain", "rawjson") for f in broken),
        pybuild("--call=check", "-f", f"{folder}/Typo", folder),
    ]
    assert [d.code for d in outs[-7:]] == [1] * 7
    assert_not_shown(*outs)
    assert f"ADD http://xxxxx:xxxxx@{files.host}/tool" in outs[1].err
    assert_kept_nowhere(pybuild.root, TOKEN, BASIC.removeprefix("Basic "))
    image = read_image(f"{tmp_path}/x.tar")
    assert TOKEN not in json.dumps(image.config) + (tmp_path / "meta").read_text()
    assert f"ADD http://xxxxx:xxxxx@{files.host}/tool" in image.config["history"][1]["created_by"]


def test_credentials_in_the_urls_of_commands(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    """In the name of the step, its record and its history, and where a mount is described by the command that has it."""
    url = f"http://me:{TOKEN}@example.invalid/x"
    folder = context({
        "Dockerfile": f"FROM {busybox}\nRUN --mount=from={busybox},target=/c,rw --mount=type=cache,target=/k : {url}\n",
        "Broken": f'FROM {busybox}\nRUN ["false", "{url}"]\n',
    })
    trace = f"{tmp_path}/trace.json"
    assert_not_shown(
        *(pybuild.ok(f"--progress={p}", "--no-cache", "--explain", "-o", f"type=oci,dest={tmp_path}/x.tar", folder,
                     env={"PYBUILD_TRACE": trace}) for p in ("plain", "rawjson")),
        pybuild("-f", f"{folder}/Broken", folder),
        pybuild.ok("graph", folder), pybuild("plan", folder), pybuild.ok("why"), pybuild.ok("du", "--verbose"),
    )  # fmt: skip
    assert_kept_nowhere(pybuild.root, TOKEN)
    assert TOKEN not in Path(trace).read_text()
    assert ": http://xxxxx:xxxxx@example.invalid/x" in read_image(f"{tmp_path}/x.tar").config["history"][-1]["created_by"]


def test_credentials_in_the_url_of_a_context(pybuild: Pybuild, context: Context, files: Files, repositories: GitServer) -> None:
    urls = (f"http://me:{TOKEN}@{files.host}/ctx.tar.gz", f"http://me:{TOKEN}@{repositories.host}/r/.git")
    named = context({"Dockerfile": "FROM scratch\nCOPY --from=dep . /\n"})
    for url in urls:
        flags = ("--build-context", f"dep={url}")
        assert_not_shown(
            *(pybuild.ok(f"--progress={p}", "--no-cache", "--explain", url) for p in ("plain", "rawjson")),
            *(pybuild.ok(f"--progress={p}", "--no-cache", *flags, named) for p in ("plain", "rawjson")),
            pybuild.ok("graph", url),
            pybuild.ok("graph", *flags, named),
            pybuild("plan", "--no-cache", url),
            pybuild.ok("why"),
            pybuild("-f", "none", url),
            pybuild(url + "-nowhere"),
        )
    assert_kept_nowhere(pybuild.root, TOKEN, BASIC.removeprefix("Basic "))


# ------------------------------------------------------------------------------------------------ where they are sent
def test_a_file_that_is_redirected_to_another_host(pybuild: Pybuild, context: Context, files: Files, other: Files) -> None:
    folder = context({
        "url": f"FROM scratch\nADD http://me:{TOKEN}@{files.host}/moved/tool /\n",
        "secret": f"FROM scratch\nADD http://{files.host}/moved/tool /\n",
        "header": f"FROM scratch\nADD http://{files.host}/moved/tool /\n",
    })
    env = {"AUTH": BASIC, "TOK": TOKEN}
    pybuild.ok("-f", f"{folder}/url", folder)
    pybuild.ok("--no-cache", "-f", f"{folder}/secret", "--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOK", folder, env=env)
    pybuild.ok("--no-cache", "-f", f"{folder}/header", "--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,env=AUTH", folder, env=env)
    assert {sent for path, sent in files.asked if path.startswith("/moved/")} == {BASIC, f"Bearer {TOKEN}"}
    assert [path for path, _ in other.asked]
    assert {sent for _, sent in other.asked} == {""}


class _Redirecting(LayoutRegistry):
    """Wants the password, and sends everybody elsewhere for blobs."""

    elsewhere = ""

    def deny(self, path: str) -> tuple[int, dict[str, str]] | None:
        if "/blobs/" in path and self.elsewhere:
            return 307, {"Location": f"http://{self.elsewhere}{path}"}
        return None

    def refuse(self, authorization: str) -> tuple[int, dict[str, str]] | None:
        return None if authorization == BASIC else (401, {"WWW-Authenticate": 'Basic realm="x"'})


def test_blobs_of_a_registry_that_are_redirected_to_another_host(
    pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    with _Redirecting(busybox_layout) as here, LayoutRegistry(busybox_layout) as there:
        here.elsewhere = there.host
        auths = {here.host: {"auth": BASIC.removeprefix("Basic ")}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        done = pybuild.ok(context({"Dockerfile": f"FROM {here.host}/app:1\nRUN true\n"}), env={"DOCKER_CONFIG": str(tmp_path)})
        assert BASIC in here.sent
        assert there.asked
        assert there.sent == set()
    assert_not_shown(done)
    assert_kept_nowhere(pybuild.root, TOKEN, BASIC.removeprefix("Basic "))

"""Credentials of a git remote and redirects: they stay with the origin they were given for (CVE-2020-15157's kin).

git follows the redirect of its first question and asks the new place for everything else, with the same extra headers."""

from __future__ import annotations

import os

import pytest

from builder.errors import SourceError
from builder.graph.ops import GitSource
from builder.session import Session
from builder.worker import Worker
from tests.builder.sources.test_git import Repository, content, git
from tests.support.gitserver import GitServer

pytestmark = pytest.mark.integration
TOKEN = Session(secret={"GIT_AUTH_TOKEN": b"t0ken"}.get)
HEADER = Session(secret={"GIT_AUTH_HEADER": b"bearer t0ken"}.get)


@pytest.fixture
def area(tmp_path: object) -> str:
    return f"{tmp_path}/served"


@pytest.fixture(autouse=True)
def repository(area: str) -> Repository:
    made = Repository(f"{area}/r")
    made.commit(a="one")
    return made


def remote(server: GitServer, user: str = "") -> GitSource:
    return GitSource(f"http://{user}{server.host}/r/.git")


@pytest.mark.parametrize("session", [TOKEN, HEADER], ids=["token", "header"])
def test_another_host_gets_no_token(worker: Worker, area: str, session: Session) -> None:
    with GitServer(area) as there, GitServer(moved={"/": there.url + "/"}) as here:
        assert content(worker, remote(here), session) == {"a": "one"}
        assert len(here.sent) == 1
        assert there.asked
        assert there.sent == set()


@pytest.mark.parametrize("private", [("GET", "POST"), ("POST",)])
def test_another_host_that_asks_for_credentials_gets_none(worker: Worker, area: str, private: tuple[str, ...]) -> None:
    with GitServer(area, private=private) as there, GitServer(moved={"/": there.url + "/"}) as here:
        for source, session in ((remote(here), TOKEN), (remote(here, "me:t0ken@"), Session())):
            with pytest.raises(SourceError):
                content(worker, source, session)
        assert there.asked
        assert there.sent == set()


@pytest.mark.parametrize(("user", "session"), [("", TOKEN), ("", HEADER), ("me:t0ken@", Session())], ids=["token", "header", "url"])
def test_the_same_host_keeps_the_credentials(worker: Worker, area: str, user: str, session: Session) -> None:
    os.rename(f"{area}/r", f"{area}/renamed")
    with GitServer(area, moved={"/r/": "/older/", "/older/": "/renamed/"}, private=("GET", "POST")) as server:
        assert content(worker, remote(server, user), session) == {"a": "one"}
        assert len(server.sent) == 1


@pytest.mark.parametrize("same", [True, False])
def test_a_submodule_that_redirects_keeps_the_credentials_at_its_host_only(
    worker: Worker, area: str, repository: Repository, same: bool
) -> None:
    sub = Repository(f"{area}/moved/sub")
    sub.commit(s="sub")
    git(f"{area}/r", "submodule", "--quiet", "add", "--", f"file://{area}/moved/sub", "sub")
    git(f"{area}/r", "config", "-f", ".gitmodules", "submodule.sub.url", "../sub")
    repository.commit()
    with GitServer(area) as there, GitServer(area, private=("GET", "POST")) as here:
        here.moved = {"/r/sub/": "/moved/sub/.git/" if same else there.url + "/moved/sub/.git/"}
        found = content(worker, remote(here, "me:t0ken@"))
        assert found.pop(".gitmodules")
        assert {name: text for name, text in found.items() if not name.endswith(".git")} == {"a": "one", "sub/s": "sub"}
        assert bool(there.asked) != same
        assert there.sent == set()

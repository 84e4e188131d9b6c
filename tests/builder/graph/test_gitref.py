"""Which texts name a git repository, and what they say of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.graph.gitref import GitRef, is_commit, parse_git_ref
from builder.text.redact import redact_history, redact_source, redact_text, redact_url


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/",
        "https://example.org/repo",
        "https://example.org/repo.git/",
        "https://example.org/repo.git.zip",
        "http://example.org/a/b.git:#branch",
        "https://example.org:port/repo.git",
        "ftp://example.org/repo.git",
        "example.org/team/repo.git",
        "git@example.org",
        "git@example.org/team/repo.git",
        "a:b@example.org:repo.git",
        "./repo.git",
        "../repo.git",
        "./git@example.org:x.git",
        ".git",
        "file.txt",
        "",
    ],
)
def test_other_texts_are_not_git(text: str) -> None:
    assert parse_git_ref(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.org/repo.git", GitRef("https://example.org/repo.git")),
        ("HTTPS://example.org/repo.git", GitRef("https://example.org/repo.git")),
        ("https://u:p@example.org/repo.git", GitRef("https://u:p@example.org/repo.git")),
        ("http://example.org:8080/repo.git", GitRef("http://example.org:8080/repo.git")),
        ("git://example.org/repo", GitRef("git://example.org/repo")),
        ("ssh://git@example.org:22/repo", GitRef("ssh://git@example.org:22/repo")),
        ("git@example.org:team/repo", GitRef("git@example.org:team/repo")),
        ("other_User-1@example.org:/odd:repo.git", GitRef("other_User-1@example.org:/odd:repo.git")),
        ("github.com/team/repo", GitRef("github.com/team/repo", indistinguishable_from_local=True)),
        ("github.com/team/repo#v1", GitRef("github.com/team/repo", "v1", indistinguishable_from_local=True)),
        ("https://example.org/r.git#a/b:c/d", GitRef("https://example.org/r.git", "a/b", "c/d")),
        ("https://example.org/r.git#:dir", GitRef("https://example.org/r.git", "", "dir")),
        ("https://example.org/r.git#v1:/../../etc", GitRef("https://example.org/r.git", "v1", "etc")),
        ("git@example.org:r.git#v1:hack", GitRef("git@example.org:r.git", "v1", "hack")),
        ("https://example.org/r.git?ref=v1&subdir=/s", GitRef("https://example.org/r.git", "v1", "/s")),
        ("https://example.org/r.git?subdir=s#v1", GitRef("https://example.org/r.git", "v1", "s")),
        ("https://example.org/r.git?tag=v1", GitRef("https://example.org/r.git", "refs/tags/v1")),
        ("https://example.org/r.git?branch=v1", GitRef("https://example.org/r.git", "refs/heads/v1")),
        ("git@example.org:r.git?subdir=/s#v1", GitRef("git@example.org:r.git", "v1", "/s")),
        ("https://example.org/r.git?commit=abc", GitRef("https://example.org/r.git", checksum="abc")),
        ("https://example.org/r.git?mtime=commit", GitRef("https://example.org/r.git", mtime="commit")),
        ("https://example.org/r.git?keep-git-dir", GitRef("https://example.org/r.git", keep_git_dir=True)),
        ("https://example.org/r.git?submodules=0", GitRef("https://example.org/r.git", submodules=False)),
        ("https://example.org/r.git?fetch-by-commit=t", GitRef("https://example.org/r.git", fetch_by_commit=True)),
    ],
)
def test_forms(text: str, expected: GitRef) -> None:
    assert parse_git_ref(text) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ref=a#b", 'ref conflicts: "b" vs "a"'),
        ("ref=a&tag=b", 'ref conflicts: "a" vs "refs/tags/b"'),
        ("tag=a&branch=a", "branch conflicts with tag"),
        ("subdir=a#:b", 'subdir conflicts: "b" vs "a"'),
        ("mtime=now", 'invalid mtime value: "now" (must be "checkout" or "commit")'),
        ("submodules=maybe", 'invalid submodules value: "maybe"'),
        ("ref=", 'query "ref" has no value'),
        ("ref=a&ref=a", 'query "ref" has multiple values'),
        ("bogus=1", 'unexpected query "bogus"'),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(query: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_git_ref("https://example.org/r.git?" + query)


@given(st.text() | st.text().map(lambda t: "https://h/r.git" + t) | st.text().map(lambda t: "git@h:" + t))
def test_any_text_gives_a_reference_none_or_a_value_error(text: str) -> None:
    try:
        ref = parse_git_ref(text)
    except ValueError:
        return
    if ref is not None:
        assert "#" not in ref.remote
        assert ref.url


def test_the_instruction_adds_to_what_the_url_says() -> None:
    ref = parse_git_ref("github.com/team/repo?submodules=false#main")
    assert ref is not None
    source = ref.source(keep_git_dir=True, checksum="abc")
    assert (source.remote, source.ref, source.keep_git_dir, source.checksum, source.skip_submodules) == (
        "https://github.com/team/repo", "main", True, "abc", True,
    )  # fmt: skip


def test_a_commit_is_a_full_lower_case_object_name() -> None:
    assert is_commit("a" * 40)
    assert is_commit("0" * 64)
    assert not is_commit("a" * 39)
    assert not is_commit("A" * 40)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/x", "https://xxxxx:xxxxx@host/x"),
        ("https://user@host/x", "https://xxxxx@host/x"),
        ("https://:secret@host/x", "https://:xxxxx@host/x"),
        ("https://host/x@y", "https://host/x@y"),
        ("git@host:x", "git@host:x"),
    ],
)
def test_credentials_are_masked(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert redact_text(f"fatal: '{url}' failed") == f"fatal: '{shown}' failed"


def test_known_secrets_are_masked_anywhere() -> None:
    assert redact_text("Authorization: basic Zm9v", ("basic Zm9v",)) == "Authorization: xxxxx"


def test_the_user_of_ssh_remotes_is_no_secret_in_texts() -> None:
    url = "ssh://git@host/x"
    assert redact_url(url) == "ssh://xxxxx@host/x"  # as BuildKit has it in records
    assert redact_source(url) == url
    assert redact_text(f"RUN pip install git+{url}") == f"RUN pip install git+{url}"
    assert redact_source("https://git:p'w@host/x") == "https://xxxxx:xxxxx@host/x"


def test_a_history_masks_what_could_open_a_source() -> None:
    assert redact_history("RUN pip install git+https://me:pw@host/x") == "RUN pip install git+https://xxxxx:xxxxx@host/x"
    assert redact_history("|1 URL=http://tok@host/x sh") == "|1 URL=http://xxxxx@host/x sh"
    for text in ("ENV DB=postgres://app:app@db", "RUN pip install git+ssh://git@host/x", "ADD http://host/a@b /", "RUN echo a@b ://c@d"):
        assert redact_history(text) == text

"""The small rules: paths, owners, modes, ports, names, arguments of mounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.graph.ops import Owner
from builder.text.paths import clean, join
from frontend.convert.expose import exposed_ports
from frontend.convert.names import heredoc_summary, uppercase_keyword
from frontend.convert.owner import parse_mode, parse_owner
from frontend.convert.paths import destination, normalize, unix_form
from frontend.convert.remote import http_filename, is_http_source
from frontend.errors import ConvertError
from frontend.lint import Linter


@pytest.mark.parametrize(("path", "cleaned"), [("", "."), ("//a", "/a"), ("/..", "/"), ("a/../..", ".."), ("/a//b/.", "/a/b")])
def test_clean(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


def test_join_does_not_drop_what_is_before_an_absolute_part() -> None:
    assert (join("/a", "/b"), join("", ""), join("a", "", "../b")) == ("/a/b", "", "b")


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [
        ("/w", "a", "/w/a"),
        ("/w", "a/", "/w/a/"),
        ("/w", ".", "/w/"),
        ("/w", "a/.", "/w/a/."),
        ("/", ".", "/"),
        ("/w", "/a//b/../c/", "/a/c/"),
        ("/w", "/.", "/."),
        ("/w", "../x", "/x"),
        ("/w", "../../../x", "/x"),
    ],
)
def test_destination_keeps_the_end_that_tells_a_folder(directory: str, path: str, expected: str) -> None:
    assert destination(directory, path) == expected


@given(st.text("abc/.", min_size=1), st.text("ab/.", min_size=1))
def test_destination_is_absolute_and_clean_but_for_its_end(directory: str, path: str) -> None:
    found = destination("/" + directory, path)
    assert found.startswith("/")
    assert ".." not in found.split("/")
    assert found.removesuffix("/.").rstrip("/") == clean(found).rstrip("/")


def test_an_absolute_path_stays_as_it_is_written() -> None:
    assert normalize("/w", "/a//b", keep_slash=False) == "/a//b"


def test_windows_paths_are_on_drive_c() -> None:
    assert unix_form("c:\\a\\b", "windows") == "/a/b"
    assert unix_form("c:\\a", "linux") == "c:\\a"
    for path in ("d:\\a", "\\\\host\\share", "c:"):
        with pytest.raises(ValueError, match=r"drive|UNC|relative"):
            unix_form(path, "windows")


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("5", Owner(5)),
        ("5:6", Owner(5, 6)),
        ("root", Owner(0)),
        ("app:staff", Owner("app", "staff")),
        (":7", Owner(0, 7)),
        ("a:", Owner("a", 0)),
        ("99999999999", Owner("99999999999")),
    ],
)
def test_owners(text: str, owner: Owner) -> None:
    assert parse_owner(text) == owner


@pytest.mark.parametrize(
    ("text", "mode"), [("755", (0o755, "")), ("07777", (0o7777, "")), ("u=rwX,go-w", (None, "u=rwX,go-w")), ("+x", (None, "+x"))]
)
def test_modes(text: str, mode: tuple[int | None, str]) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize("text", ["10000", "8", "7x", "u", "u=z", "=,", "x+r", "", "٣"])
def test_modes_that_are_none(text: str) -> None:
    with pytest.raises(ConvertError):
        parse_mode(text)


@pytest.mark.parametrize(
    ("word", "ports"),
    [
        ("80", ["80/tcp"]),
        ("0", ["0/tcp"]),
        ("80-82/udp", ["80/udp", "81/udp", "82/udp"]),
        ("127.0.0.1:8080:80", ["80/tcp"]),
        ("[::1]:8080:80/sctp", ["80/sctp"]),
        ("8000-8001:80", ["80/tcp"]),
    ],
)
def test_ports(word: str, ports: list[str]) -> None:
    assert exposed_ports([word], (), Linter()) == ports


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", 'invalid port: "": no port specified'),
        ("80/abc", 'invalid port: "80/abc": invalid proto: abc'),
        ("82-80", "invalid containerPort: 82-80"),
        ("a", "invalid containerPort: a"),
        ("x:80", "invalid hostPort: x"),
        ("1-2:3-5", "invalid ranges specified for container and host Ports: 3-5 and 1-2"),
        ("300.0.0.1:80:80", "invalid IP address: 300.0.0.1"),
    ],
)
def test_ports_that_are_none(word: str, message: str) -> None:
    with pytest.raises(ConvertError) as caught:
        exposed_ports([word], (), Linter())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://e/a/b.txt?q=1#f", "b.txt"), ("http://e/", "__unnamed__"), ("http://e/a/", "a"), ("http://e/a%20b", "a b")],
)
def test_a_fetched_file_has_the_last_name_of_its_path(url: str, name: str) -> None:
    assert http_filename(url) == name


def test_a_git_url_is_no_file() -> None:
    assert is_http_source("https://example.com/a.tar")
    assert not is_http_source("https://example.com/a.git")
    assert not is_http_source("a.tar")


def test_names_are_short_and_shout_the_keyword() -> None:
    assert uppercase_keyword("copy a B") == "COPY a B"
    assert (heredoc_summary("\none\ntwo\n"), heredoc_summary("one\n")) == ("one...", "one")
